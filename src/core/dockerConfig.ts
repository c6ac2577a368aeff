import { createHash } from 'node:crypto';

/** One entry of `auths`. `auth` alone is enough for kubelets and docker clients, and halves the size. */
export interface DockerAuth {
  readonly auth: string; // base64 of user:password
}

/** The Secret's data limit is 1 MiB; what lies above this is left out, so that hosts that are held still fit. */
export const DOCKER_CONFIG_LIMIT_BYTES = 900 * 1024;

/** What one host adds to the document, in bytes. */
export function sizeOfEntry(host: string, entry: DockerAuth): number {
  return host.length + entry.auth.length + '"":{"auth":""},'.length;
}

/** sha256 of an entry as it stands in the document, in hex. */
export function hashOfEntry(entry: DockerAuth): string {
  return createHash('sha256').update(JSON.stringify(entry)).digest('hex');
}

/**
 * The text of `.dockerconfigjson`: equal entries give equal bytes, whatever their order. Kubelets remember an image's
 * credentials by their hash (KEP-2535), so every namespace must get the same bytes.
 */
export function dockerConfigJson(entries: ReadonlyMap<string, DockerAuth>): string {
  const hosts = [...entries.keys()].sort();
  const members = hosts.map((host) => `${JSON.stringify(host)}:${JSON.stringify(entries.get(host))}`);
  return `{"auths":{${members.join(',')}}}`;
}

/** The entries of a document that we have written; what does not look like one is left out, never an error. */
export function parseDockerConfigJson(text: string): ReadonlyMap<string, DockerAuth> {
  const entries = new Map<string, DockerAuth>();
  const auths = authsOf(text);
  for (const host of Object.keys(auths)) {
    const auth: unknown = (auths[host] as { auth?: unknown } | null)?.auth;
    if (typeof auth === 'string') entries.set(host, { auth });
  }
  return entries;
}

function authsOf(text: string): Readonly<Record<string, unknown>> {
  if (hasManyLists(text)) return {};
  try {
    const document: unknown = JSON.parse(text);
    const auths: unknown = (document as { auths?: unknown } | null)?.auths;
    const isObject = typeof auths === 'object' && auths !== null && !Array.isArray(auths);
    return isObject ? (auths as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

const MOST_LISTS = 1_000; // no document of Docker's has any; a megabyte of them, one in the other, takes 28 MB to be read

function hasManyLists(text: string): boolean {
  let count = 0;
  for (let at = text.indexOf('['); at >= 0 && count <= MOST_LISTS; at = text.indexOf('[', at + 1)) count += 1;
  return count > MOST_LISTS;
}
