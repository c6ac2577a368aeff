import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { crd, parseSpec } from '../../src/api/clusterEcrPullSecret.ts';
import { defaultCredentialSecretName, defaultSecretName, operatorName, plural } from '../../src/api/groupVersion.ts';
import { adminToken, ApiServer, type ApiServerOptions } from './apiServer.ts';
import { SandboxAws, type AwsSettings } from './aws.ts';
import { createAuthority, loopbackNames } from './certificate.ts';
import { HostProxy } from './hostProxy.ts';
import { kubeconfig } from './kubeconfig.ts';
import type { Manifest } from './localClient.ts';
import { operatorPolicy } from './operatorPolicy.ts';
import { operatorRules, rbac } from './operatorRights.ts';
import { createPod, type PodPull, type PodSpec } from './podPull.ts';
import { SandboxRegistry } from './registry.ts';

export interface SandboxOptions extends Omit<ApiServerOptions, 'users' | 'tls'> {
  /** Of the operator. */
  readonly namespace?: string;
  readonly secretName?: string;
  readonly formerSecretNames?: readonly string[];
  readonly credentialSecretNames?: readonly string[];
  /** Whether the ValidatingAdmissionPolicy is in force; a reason of null makes its denials 422, as without `reason`. */
  readonly policy?: boolean;
  readonly https?: boolean; // of the API server; the registry always is
  readonly aws?: Partial<AwsSettings>;
  /** AWS's clock; by default the machine's. */
  readonly now?: () => number;
  /** Names under which the registry is reached, by pods and by way of the proxy. */
  readonly registryHosts?: readonly string[];
  /** Applied beside the CustomResourceDefinition, which `crd: false` leaves out; all of it counts as an hour old. */
  readonly manifests?: readonly Manifest[];
  readonly crd?: boolean;
  /** Lets this process trust the sandbox's authority, as an operator in process has to. */
  readonly trusted?: boolean;
}

/** A cluster, AWS and a registry in this process; the operator finds its way by `env` and `kubeconfigPath`. */
export interface Sandbox extends AsyncDisposable {
  readonly api: ApiServer;
  readonly aws: SandboxAws;
  readonly registry: SandboxRegistry;
  readonly registryHosts: readonly string[];
  readonly proxy: HostProxy;
  readonly namespace: string;
  readonly operatorUser: string;
  readonly ca: string; // PEM
  readonly directory: string;
  /** Of the operator, under its own rights. */
  readonly kubeconfigPath: string;
  readonly adminKubeconfigPath: string;
  /** For an operator's process, or as its `env`. */
  readonly env: Record<string, string>;
  /** A pod that is created now, for whose image `attempt` pulls. */
  createPod(spec: Pick<PodSpec, 'namespace' | 'image' | 'serviceAccount' | 'imagePullSecrets'>): Promise<PodPull>;
  close(): Promise<void>;
}

const INSTALLED_AGO_MS = 3_600_000;

export const operatorToken = 'sandbox-operator-token';

export const defaultRegistryHosts: readonly string[] = [
  '123456789012.dkr.ecr.eu-west-1.amazonaws.com',
  '123456789012.dkr.ecr.us-east-1.amazonaws.com',
  '210987654321.dkr.ecr.eu-west-1.amazonaws.com',
  'public.ecr.aws',
  'registry.corp.example',
];

export async function startSandbox(o: SandboxOptions = {}): Promise<Sandbox> {
  const { namespace = operatorName, registryHosts = defaultRegistryHosts } = o;
  const directory = await mkdtemp(path.join(tmpdir(), 'ecr-pull-secrets-'));
  const authority = createAuthority();
  if (o.trusted !== false) trust(authority.ca);
  const operatorUser = `system:serviceaccount:${namespace}:${operatorName}`;
  const api = await startApi(o, { namespace, operatorUser, tls: authority.issue(loopbackNames()) });
  const aws = await SandboxAws.start(o.aws, o.now);
  const registry = await SandboxRegistry.start({
    certificate: authority.issue(loopbackNames(...registryHosts)),
    stateOf: (auth) => aws.tokens.stateOf(auth),
  });
  const portOf = (host: string): number | null => (registryHosts.includes(host) ? registry.port : null);
  const proxy = await HostProxy.start(portOf);
  const write = async (name: string, content: string): Promise<string> => {
    const file = path.join(directory, name);
    await writeFile(file, content, { mode: 0o600 });
    return file;
  };
  const config = (token: string): string =>
    kubeconfig({ server: api.url, token, namespace, ...(o.https === true && { caPem: authority.ca }) });
  const close = async (): Promise<void> => {
    await Promise.all([api.close(), aws.close(), registry.down(), proxy.close()]);
    await rm(directory, { recursive: true, force: true });
  };
  const access = { url: api.url, token: adminToken, ...(o.https === true && { ca: authority.ca }) };
  return {
    ...{ api, aws, registry, registryHosts, proxy, namespace, operatorUser, ca: authority.ca, directory, close },
    kubeconfigPath: await write('operator.yaml', config(operatorToken)),
    adminKubeconfigPath: await write('admin.yaml', config(adminToken)),
    env: {
      ...aws.env,
      AWS_REGION: 'us-east-1',
      AWS_SHARED_CREDENTIALS_FILE: path.join(directory, 'none'),
      AWS_CONFIG_FILE: path.join(directory, 'none'),
      HTTPS_PROXY: proxy.url,
      NO_PROXY: '127.0.0.1,localhost,::1',
      NODE_EXTRA_CA_CERTS: await write('ca.crt', authority.ca),
    },
    createPod: (spec) => createPod({ ...spec, api: access, ca: authority.ca, portOf }),
    [Symbol.asyncDispose]: close,
  };
}

async function startApi(
  o: SandboxOptions,
  { namespace, operatorUser, tls }: { namespace: string; operatorUser: string; tls: { cert: string; key: string } },
): Promise<ApiServer> {
  const secretNames = [o.secretName ?? defaultSecretName, ...(o.formerSecretNames ?? [])];
  const { credentialSecretNames = [defaultCredentialSecretName] } = o;
  const users = [operatorUser, `${operatorUser}-cleanup`];
  const rules = operatorRules({ namespace, secretNames, credentialSecretNames });
  const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'];
  const api = await ApiServer.start({
    authorize: rbac((name) => (name === operatorUser ? rules : [])),
    ...(o.policy !== false && { admission: operatorPolicy({ namespace, secretNames, users }) }),
    validateCustom: (object, type) => {
      if (type.plural !== plural) return [];
      const parsed = parseSpec(object['spec']);
      return 'errors' in parsed ? parsed.errors : [];
    },
    ...o,
    users: { [operatorToken]: { name: operatorUser, groups } },
    ...(o.https === true && { tls }),
  });
  // An operator that starts under a CustomResourceDefinition of a few minutes holds removals back.
  api.dateOffsetMs = -INSTALLED_AGO_MS;
  api.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
  const manifests = [...(o.crd === false ? [] : [crd() as Manifest]), ...(o.manifests ?? [])];
  for (const manifest of manifests) api.admin.apply(manifest);
  api.dateOffsetMs = 0;
  return api;
}

function trust(ca: string): void {
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), ca]);
}
