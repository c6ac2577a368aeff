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

export const RENEW_DEADLINE_MS = 10_000;
const RETRY_MS = 2_000; // between two renewals
const SLACK_MS = 500; // between the renewal's answer there and its event here

/**
 * Invariant 6: nothing is written after the lease's deadline: not by a replica that has never held it, nor later than ten
 * seconds after its last renewal, nor once another one holds it.
 */
export function writesWithoutLease(writes: readonly SeenWrite[], versions: readonly Version[]): string[] {
  const leases = versions.filter(({ collection, object }) => {
    return collection === 'leases' && object.metadata.name === operatorName;
  });
  const holderIn = ({ object }: Version) => (object['spec'] as { holderIdentity?: string } | undefined)?.holderIdentity;
  return writes.flatMap(({ holder, path, time }) => {
    // What was renewed in the moment of the write may be seen here just after it.
    const before = leases.filter((lease) => lease.time <= time + SLACK_MS);
    const own = before.findLast((lease) => holderIn(lease) === holder);
    if (own === undefined) return [`${holder} wrote ${path} without ever having had the lease`];
    if (time - own.time > RENEW_DEADLINE_MS + SLACK_MS) {
      return [`${holder} wrote ${path} ${Math.round(time - own.time)} ms after its last renewal`];
    }
    // Whoever is robbed of a lease that still lasts learns of it at its next renewal.
    const last = leases.findLast((lease) => lease.time <= time - RETRY_MS - SLACK_MS);
    const isTaken = last !== undefined && last.time > own.time && holderIn(last) !== holder && holderIn(last) !== '';
    return isTaken ? [`${holder} wrote ${path} while ${holderIn(last)} had the lease`] : [];
  });
}
