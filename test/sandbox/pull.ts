import { once } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http';
import { request } from 'node:https';
import { digest } from '../cluster/staticImage.ts';
import { credentialsFor } from './keyring.ts';

export type PullResult =
  | { readonly ok: true; readonly digest: string; readonly bytes: number }
  | { readonly ok: false; readonly reason: 'ErrImagePull'; readonly message: string };

export interface Pull {
  readonly image: string; // HOST/REPOSITORY:TAG
  /** The `.dockerconfigjson` of each of the pod's pull secrets, in their order. */
  readonly dockerConfigs: readonly (Buffer | string)[];
  readonly ca: string; // PEM
  /** Where a registry's name leads: a port of loopback, or null where it is not known. */
  readonly portOf: (host: string) => number | null;
}

/**
 * Pulls an image as a kubelet has it done: each matching credential in turn, anonymously only where none matches; the
 * manifest, then config and layers, each held against its digest. Never throws.
 */
export async function pullImage(pull: Pull): Promise<PullResult> {
  const { image, dockerConfigs } = pull;
  try {
    const credentials = credentialsFor(image, dockerConfigs);
    const why: string[] = [];
    for (const auth of credentials.length > 0 ? credentials : [null]) {
      try {
        return await download(pull, auth);
      } catch (error) {
        why.push(textOf(error));
      }
    }
    return failed(
      `failed to pull and unpack image "${image}": failed to resolve reference "${image}": ${why.join('; ')}`,
    );
  } catch (error) {
    return failed(`failed to pull image "${image}": ${textOf(error)}`);
  }
}

const TIMEOUT_MS = 10_000;
const ACCEPTED = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
].join(', ');

interface Manifest {
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly digest: string }[];
}

async function download(pull: Pull, auth: string | null): Promise<PullResult> {
  const { host, repository, tag } = parse(pull.image);
  let authorization = auth === null ? null : `Basic ${auth}`;
  const get = async (path: string): Promise<Buffer> => {
    const ask = (): Promise<Answer> => fetch(host, `/v2/${repository}/${path}`, { ...pull, authorization });
    let answer = await ask();
    const realm = bearerRealm(answer);
    if (realm) {
      authorization = await bearerFrom(realm, { ...pull, authorization });
      answer = await ask();
    }
    if (answer.status !== 200) throw new Error(refusal(`https://${host}/v2/${repository}/${path}`, answer));
    return answer.body;
  };
  const manifest = await get(`manifests/${tag}`);
  const { config, layers } = JSON.parse(manifest.toString()) as Manifest;
  let bytes = manifest.length;
  for (const blob of [config, ...layers]) {
    const content = await get(`blobs/${blob.digest}`);
    if (digest(content) !== blob.digest) throw new Error(`the content of ${blob.digest} is another`);
    bytes += content.length;
  }
  return { ok: true, digest: digest(manifest), bytes };
}

function bearerRealm({ status, headers }: Answer): URL | null {
  const challenge = headers['www-authenticate'] ?? '';
  if (status !== 401 || !challenge.startsWith('Bearer ')) return null;
  const parameters = new Map(
    [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = '', value = '']) => [name, value]),
  );
  const realm = new URL(parameters.get('realm') ?? '');
  for (const name of ['service', 'scope']) realm.searchParams.set(name, parameters.get(name) ?? '');
  return realm;
}

// A token that the realm refuses spoils a pull that would have worked without any.
async function bearerFrom(realm: URL, o: Reach): Promise<string> {
  const answer = await fetch(realm.host, `${realm.pathname}${realm.search}`, o);
  if (answer.status !== 200) throw new Error(`failed to fetch oauth token: ${refusal(realm.href, answer)}`);
  const { token } = JSON.parse(answer.body.toString()) as { token: string };
  return `Bearer ${token}`;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

type Reach = Pick<Pull, 'ca' | 'portOf'> & { readonly authorization: string | null };

async function fetch(host: string, path: string, o: Reach): Promise<Answer> {
  const name = host.replace(/:\d+$/, '');
  const port = o.portOf(host);
  if (port === null) throw new Error(`dial tcp: lookup ${name}: no such host`);
  const outgoing = request({
    ...{ host: '127.0.0.1', port, path, servername: name, ca: o.ca, agent: false },
    headers: { host, accept: ACCEPTED, ...(o.authorization !== null && { authorization: o.authorization }) },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const answered = once(outgoing, 'response');
  outgoing.end();
  const [incoming] = (await answered) as [
    AsyncIterable<Buffer> & { statusCode?: number; headers: IncomingHttpHeaders },
  ];
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk);
  return { status: incoming.statusCode ?? 0, headers: incoming.headers, body: Buffer.concat(chunks) };
}

// containerd's words.
function refusal(url: string, { status, body }: Answer): string {
  if (status === 401) {
    return 'pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials';
  }
  const texts: Record<number, string> = { 403: 'Forbidden', 404: 'Not Found', 400: 'Bad Request' };
  const message = messageOf(body);
  return `unexpected status from GET request to ${url}: ${status} ${texts[status] ?? ''}${message && `: ${message}`}`;
}

function messageOf(body: Buffer): string {
  try {
    const { errors } = JSON.parse(body.toString()) as { errors?: { code: string; message: string }[] };
    return (errors ?? []).map(({ code, message }) => `${code.toLowerCase()}: ${message}`).join('; ');
  } catch {
    return '';
  }
}

function parse(image: string): { host: string; repository: string; tag: string } {
  const [, host, repository, tag = 'latest'] = /^([^/]+)\/([^:@]+)(?::([\w.-]+))?$/.exec(image) ?? [];
  if (host === undefined || repository === undefined) throw new Error(`couldn't parse image name "${image}"`);
  return { host, repository, tag };
}

function failed(message: string): PullResult {
  return { ok: false, reason: 'ErrImagePull', message };
}

function textOf(error: unknown): string {
  const { message, code } = error as { message?: string; code?: string };
  return message || code || String(error);
}
