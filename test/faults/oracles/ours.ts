import { annotations, dockerConfigKey, dockerConfigType, fieldManager, labels } from '../../../src/api/groupVersion.ts';
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
 * only: no write drops one that lives while its host is wanted. `tokenOf` knows every token that AWS gave out.
 */
export function badTokens(
  steps: readonly Step[],
  o: { tokenOf: (auth: string) => KnownToken | null; isWanted: (host: string) => boolean; secretName: string },
): string[] {
  const { tokenOf, isWanted, secretName } = o;
  return steps.flatMap(({ before, after, isOurs }) => {
    const { collection, type, object, key, time } = after;
    if (!isOurs || collection !== 'secrets' || type === 'DELETED' || object.metadata.name !== secretName) return [];
    const had = before === null ? new Map<string, string>() : authsIn(before.object);
    const has = authsIn(object);
    const dropped = [...had].flatMap(([host, auth]) => {
      const isGood = (tokenOf(auth)?.expiresAt ?? 0) > time;
      return !has.has(host) && isWanted(host) && isGood ? [`${key} lost the token for ${host} that was good`] : [];
    });
    const written = [...has].flatMap(([host, auth]) => {
      const old = had.get(host);
      if (auth === old) return [];
      const token = tokenOf(auth);
      if (token === null) return [`${key} got a token for ${host} that AWS never gave out`];
      if (token.host !== host) return [`${key} got the token of ${token.host} for ${host}`];
      if (token.expiresAt <= time) return [`${key} got a token for ${host} that was expired`];
      const isOlder = old !== undefined && token.issuedAt < (tokenOf(old)?.issuedAt ?? 0);
      return isOlder ? [`${key} got an older token for ${host} in place of a newer one`] : [];
    });
    return [...dropped, ...written];
  });
}

/** Invariant 4: how a Secret of ours is unlike the one that a night without faults leaves; null: in nothing that is ours. */
export function whyUnlike(
  secret: KubeObject,
  { host, auth }: { host: string; auth: string | undefined },
): string | null {
  const { metadata, type } = secret;
  const auths = authsIn(secret);
  if (type !== dockerConfigType) return `its type is ${String(type)}`;
  if ([...auths.keys()].join() !== host) return `its hosts are ${[...auths.keys()].join() || 'none'}`;
  if (auths.get(host) !== auth) return 'its token is not the newest';
  const isMarked =
    metadata.labels?.[labels.managedBy] === fieldManager && metadata.labels[labels.excludeFromBackup] === 'true';
  if (!isMarked) return 'it lacks a label of ours';
  const missing = [annotations.hosts, annotations.serviceAccounts].filter(
    (name) => metadata.annotations?.[name] === undefined,
  );
  return missing.length > 0 ? `it lacks ${missing.join()}` : null;
}

export function authsIn(secret: KubeObject): Map<string, string> {
  const data = (secret['data'] ?? {}) as Record<string, string>;
  const text = Buffer.from(data[dockerConfigKey] ?? '', 'base64').toString('utf8') || '{}';
  const { auths = {} } = JSON.parse(text) as { auths?: Record<string, { auth: string }> };
  return new Map(Object.entries(auths).map(([host, { auth }]) => [host, auth]));
}
