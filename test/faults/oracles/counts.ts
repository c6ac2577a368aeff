import type { AuditEvent } from '../../cluster/auditLog.ts';

export type Counts = ReadonlyMap<string, { created: number; deleted: number }>;

/** How often the operator made and deleted each object, by its audit events; a dry run counts for nothing. */
export function countsOf(ofOperator: readonly AuditEvent[]): Counts {
  const counts = new Map<string, { created: number; deleted: number }>();
  for (const { verb, objectRef, responseStatus, requestURI } of ofOperator) {
    const code = responseStatus?.code ?? 0;
    if (requestURI.includes('dryRun=All') || objectRef?.resource === 'events') continue;
    const key = `${objectRef?.resource} ${objectRef?.namespace ?? ''}/${objectRef?.name}`;
    const count = counts.get(key) ?? { created: 0, deleted: 0 };
    // A server-side apply that makes an object is a patch answered with 201.
    if (code === 201) counts.set(key, { ...count, created: count.created + 1 });
    if (verb === 'delete' && code >= 200 && code < 300) counts.set(key, { ...count, deleted: count.deleted + 1 });
  }
  return counts;
}

/** Invariant 5: creates and deletes of each object are no more than in the reference run. */
export function moreThan(reference: Counts, seen: Counts): string[] {
  return [...seen].flatMap(([key, { created, deleted }]) => {
    const expected = reference.get(key) ?? { created: 0, deleted: 0 };
    const told: string[] = [];
    if (created > expected.created) told.push(`${key}: made ${created} times, ${expected.created} without the fault`);
    if (deleted > expected.deleted) told.push(`${key}: deleted ${deleted} times, ${expected.deleted} without it`);
    return told;
  });
}
