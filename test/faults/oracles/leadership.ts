import { operatorName, resourcesPath } from '../../../src/api/groupVersion.ts';
import type { Version } from './history.ts';

/** A write that reached the API server's door, by the replica whose proxy it came through. */
export interface SeenWrite {
  holder: string; // holderIdentity of the replica
  path: string;
  time: number; // ms
}

/** Whether a request writes what only the holder of the Lease may write: pull secrets, entries, tokens, the status. */
export function needsLease({ method, path }: { method: string; path: string }): boolean {
  const [name = '', query = ''] = path.split('?');
  const isOurs =
    /^\/api\/v1\/namespaces\/[^/]+\/(secrets\/ecr-pull(-tokens)?|serviceaccounts\/[^/]+)$/.test(name) ||
    (name.startsWith(`${resourcesPath}/`) && name.endsWith('/status'));
  return isOurs && method !== 'GET' && !query.includes('dryRun=All');
}

/** The API server's answer about the Lease to one replica. */
export interface LeaseAnswer {
  holder: string; // holderIdentity of the replica
  askedAt: number; // ms
  answeredAt: number; // ms
}

export const RENEW_DEADLINE_MS = 10_000;
const SLACK_MS = 500; // between the renewal's answer there and its event here

/**
 * Invariant 6: nothing is written after the lease's deadline: not by a replica that has never held it, nor later than ten
 * seconds after its last renewal, nor once another one holds it. Whoever is robbed of a lease that still lasts learns of
 * it by the next answer.
 */
export function writesWithoutLease(
  writes: readonly SeenWrite[],
  versions: readonly Version[],
  answers: readonly LeaseAnswer[],
): string[] {
  const leases = versions.filter(({ collection, object }) => {
    return collection === 'leases' && object.metadata.name === operatorName;
  });
  return writes.flatMap(({ holder, path, time }) => {
    // What was renewed in the moment of the write may be seen here just after it.
    const ownAt = leases.findLastIndex((lease) => lease.time <= time + SLACK_MS && holderIn(lease) === holder);
    const own = leases[ownAt];
    if (own === undefined) return [`${holder} wrote ${path} without ever having had the lease`];
    if (time - own.time > RENEW_DEADLINE_MS + SLACK_MS) {
      return [`${holder} wrote ${path} ${Math.round(time - own.time)} ms after its last renewal`];
    }
    const since = leases.slice(ownAt + 1).filter((lease) => lease.time <= time - SLACK_MS);
    const takenAt = since.findIndex((lease) => lease.type !== 'DELETED' && holderIn(lease) !== '');
    const taken = since[takenAt];
    if (taken === undefined) return [];
    const isGivenUp = since.slice(0, takenAt).some((lease) => holderIn(lease) === '');
    const hasLearnt = answers.some(
      (answer) => answer.holder === holder && answer.askedAt > taken.time && answer.answeredAt < time - SLACK_MS,
    );
    return isGivenUp || hasLearnt ? [`${holder} wrote ${path} while ${holderIn(taken)} had the lease`] : [];
  });
}

function holderIn({ object }: Version): string {
  return (object['spec'] as { holderIdentity?: string } | undefined)?.holderIdentity ?? '';
}
