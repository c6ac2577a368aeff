import { Buffer } from 'node:buffer';

/**
 * What a kubelet offers a registry for an image: every entry of the pod's pull secrets that matches, longest key first,
 * as base64 of `user:password`. As pkg/credentialprovider of Kubernetes reads them: one document that cannot be read spoils
 * all of the pod's pulls. Throws then.
 */
export function credentialsFor(image: string, documents: readonly (Buffer | string)[]): string[] {
  const found: { key: string; auth: string }[] = [];
  for (const document of documents) {
    for (const [key, entry] of Object.entries(authsOf(document))) {
      const auth = authOf(entry);
      if (auth !== null && matches(key, image)) found.push({ key: bare(key), auth });
    }
  }
  const inOrder = found.sort((a, b) => (a.key < b.key ? 1 : a.key > b.key ? -1 : 0));
  return [...new Set(inOrder.map(({ auth }) => auth))];
}

function authsOf(document: Buffer | string): Record<string, unknown> {
  const parsed = JSON.parse(document.toString()) as { auths?: Record<string, unknown> } | null;
  return parsed?.auths ?? {};
}

// `auth` is stronger than `username` and `password`; it may lack its padding.
function authOf(entry: unknown): string | null {
  const { auth, username, password } = (entry ?? {}) as Partial<Record<'auth' | 'username' | 'password', unknown>>;
  if (typeof auth === 'string' && auth !== '') {
    const text = Buffer.from(auth, 'base64').toString();
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(auth) || !text.includes(':')) throw new Error('unable to parse auth field');
    return Buffer.from(text).toString('base64');
  }
  if (typeof username !== 'string' || typeof password !== 'string') return null;
  return Buffer.from(`${username}:${password}`).toString('base64');
}

// Same port, as many labels, each by glob; the key's path begins the image's.
function matches(key: string, image: string): boolean {
  const [wanted, given] = [split(bare(key)), split(image)];
  if (wanted.port !== given.port || wanted.labels.length !== given.labels.length) return false;
  const hostMatches = wanted.labels.every((label, index) => globMatches(label, given.labels[index] ?? ''));
  return hostMatches && given.path.startsWith(wanted.path);
}

function bare(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/v[12]\/?$/, '');
}

function split(name: string): { labels: string[]; port: string; path: string } {
  const slash = name.indexOf('/');
  const host = slash < 0 ? name : name.slice(0, slash);
  const [hostname = '', port = ''] = host.split(':');
  return { labels: hostname.split('.'), port, path: slash < 0 ? '' : name.slice(slash) };
}

function globMatches(glob: string, text: string): boolean {
  const [first = '', ...rest] = glob.split('*');
  if (rest.length === 0) return glob === text;
  const last = rest.at(-1) ?? '';
  if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false;
  let at = first.length;
  for (const part of rest.slice(0, -1)) {
    const next = text.indexOf(part, at);
    if (next < 0) return false;
    at = next + part.length;
  }
  return at <= text.length - last.length;
}
