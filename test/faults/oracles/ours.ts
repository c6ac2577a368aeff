import { dockerConfigKey } from '../../../src/api/groupVersion.ts';
import type { KubeObject } from '../../cluster/kubeApi.ts';
import type { Step } from './authorship.ts';
import type { Version } from './history.ts';

/** Invariant 2: ours is on each ServiceAccount once, and its Secret keeps its UID: the operator never deletes it to make it anew. */
export function doubled(versions: readonly Version[], secretName: string): string[] {
  return versions.flatMap(({ collection, key, object }) => {
    if (collection !== 'serviceaccounts') return [];
    const entries = (object['imagePullSecrets'] ?? []) as { name: string }[];
    const count = entries.filter(({ name }) => name === secretName).length;
    return count > 1 ? [`${key} had our entry ${count} times`] : [];
  });
}

export function madeAnew(steps: readonly Step[], secretName: string): string[] {
  const gone = new Set<string>();
  return steps.flatMap(({ after, isOurs }) => {
    if (after.collection !== 'secrets' || after.object.metadata.name !== secretName) return [];
    if (after.type === 'DELETED') {
      if (isOurs) gone.add(after.key);
      return [];
    }
    // What somebody else puts there after us is theirs.
    return gone.delete(after.key) && isOurs ? [`the Secret ${after.key} was deleted and made anew`] : [];
  });
}

export interface KnownToken {
  host: string;
  issuedAt: number; // ms
  expiresAt: number; // ms
}

/**
 * Invariant 3: no expired token is written, none under another registry's host, and a good one gives way to a better one
 * only. `tokenOf` knows every token that AWS gave out.
 */
export function badTokens(
  steps: readonly Step[],
  tokenOf: (auth: string) => KnownToken | null,
  secretName: string,
): string[] {
  return steps.flatMap(({ before, after, isOurs }) => {
    const { collection, type, object, key, time } = after;
    if (!isOurs || collection !== 'secrets' || type === 'DELETED' || object.metadata.name !== secretName) return [];
    const had = before === null ? new Map<string, string>() : authsIn(before.object);
    return [...authsIn(object)].flatMap(([host, auth]) => {
      const old = had.get(host);
      if (auth === old) return [];
      const token = tokenOf(auth);
      if (token === null) return [`${key} got a token for ${host} that AWS never gave out`];
      if (token.host !== host) return [`${key} got the token of ${token.host} for ${host}`];
      if (token.expiresAt <= time) return [`${key} got a token for ${host} that was expired`];
      const isOlder = old !== undefined && token.issuedAt < (tokenOf(old)?.issuedAt ?? 0);
      return isOlder ? [`${key} got an older token for ${host} in place of a newer one`] : [];
    });
  });
}

export function authsIn(secret: KubeObject): Map<string, string> {
  const data = (secret['data'] ?? {}) as Record<string, string>;
  const text = Buffer.from(data[dockerConfigKey] ?? '', 'base64').toString('utf8') || '{}';
  const { auths = {} } = JSON.parse(text) as { auths?: Record<string, { auth: string }> };
  return new Map(Object.entries(auths).map(([host, { auth }]) => [host, auth]));
}
