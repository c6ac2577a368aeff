import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { pullImage, type Pull, type PullResult } from './pull.ts';

/** A Kubernetes API and who asks it. */
export interface ApiAccess {
  readonly url: string;
  readonly token: string;
  readonly ca?: string; // PEM
}

export interface PodSpec extends Pick<Pull, 'image' | 'ca' | 'portOf'> {
  readonly api: ApiAccess;
  readonly namespace: string;
  readonly serviceAccount?: string;
  /** Names of the pod's own; with any, none of the ServiceAccount's are copied. */
  readonly imagePullSecrets?: readonly string[];
}

/** A pod as far as its image is concerned. */
export interface PodPull {
  readonly imagePullSecrets: readonly string[];
  /** One try, as of a kubelet: the Secrets are read anew. */
  attempt(): Promise<PullResult>;
}

/**
 * Makes something like a pod: the names of the ServiceAccount's pull secrets are copied once, at its creation, as the
 * ServiceAccount admission does it, which for `default` waits a moment until the controller has made it. Throws where the
 * ServiceAccount is not there, as the API server would refuse the pod.
 */
export async function createPod(spec: PodSpec): Promise<PodPull> {
  const own = spec.imagePullSecrets ?? [];
  const imagePullSecrets = own.length > 0 ? own : await namesOf(spec);
  return {
    imagePullSecrets,
    async attempt() {
      const dockerConfigs = await Promise.all(imagePullSecrets.map((name) => dockerConfig(spec, name)));
      return pullImage({ ...spec, dockerConfigs: dockerConfigs.filter((config) => config !== null) });
    },
  };
}

const TRIES_FOR_DEFAULT = 10;

async function namesOf({ api, namespace, serviceAccount = 'default' }: PodSpec): Promise<string[]> {
  const tries = serviceAccount === 'default' ? TRIES_FOR_DEFAULT : 1;
  for (let left = tries; left > 0; left--) {
    const found = await get<{ imagePullSecrets?: { name: string }[] }>(
      api,
      `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}`,
    );
    if (found) return (found.imagePullSecrets ?? []).map(({ name }) => name);
    if (left > 1) await sleep(100 + 100 * Math.random());
  }
  throw new Error(`pods is forbidden: error looking up service account ${namespace}/${serviceAccount}: not found`);
}

// One that is missing or of another type is passed over.
async function dockerConfig({ api, namespace }: PodSpec, name: string): Promise<Buffer | null> {
  const secret = await get<{ type?: string; data?: Record<string, string> }>(
    api,
    `/api/v1/namespaces/${namespace}/secrets/${name}`,
  );
  const data = secret?.data?.['.dockerconfigjson'];
  return secret?.type === 'kubernetes.io/dockerconfigjson' && data !== undefined ? Buffer.from(data, 'base64') : null;
}

async function get<T>({ url, token, ca }: ApiAccess, path: string): Promise<T | null> {
  const dispatcher = dispatcherOf(ca);
  const headers = { authorization: `Bearer ${token}`, accept: 'application/json' };
  const { statusCode, body } = await request(`${url}${path}`, { dispatcher, headers });
  const text = await body.text();
  if (statusCode === 404) return null;
  if (statusCode !== 200) throw new Error(`GET ${path}: ${statusCode}`);
  return JSON.parse(text) as T;
}

const dispatchers = new Map<string, Agent>();

function dispatcherOf(ca = ''): Agent {
  const dispatcher = dispatchers.get(ca) ?? new Agent({ keepAliveTimeout: 1000, ...(ca && { connect: { ca } }) });
  dispatchers.set(ca, dispatcher);
  return dispatcher;
}
