import { writeVerbs, type AuditEvent } from '../cluster/auditLog.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { eventually } from '../cluster/eventually.ts';
import { inParallel } from '../cluster/inParallel.ts';
import { operatorUser } from '../cluster/operator.ts';

/** The way of names in benchmarks: `run-0`, `run-1` and so on. */
export function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
}

/** Namespaces with their default ServiceAccounts, and others beside it where they are named. */
export async function createNamespaces(
  { admin }: Cluster,
  { prefix, count, accounts = [] }: { prefix: string; count: number; accounts?: readonly string[] },
): Promise<void> {
  await inParallel(names(prefix, count), async (namespace) => {
    await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
    for (const name of accounts) {
      await admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } });
    }
  });
  await eventually(
    `the default ServiceAccounts of ${prefix} are there`,
    async () => {
      const found = await admin.list('/api/v1/serviceaccounts', { fieldSelector: 'metadata.name=default' });
      return found.filter(({ metadata }) => metadata.namespace?.startsWith(`${prefix}-`)).length >= count;
    },
    600_000,
  );
}

/** The writes that namespaces cost: Secrets and ServiceAccounts; status, events, tokens and leases apart. */
export function writesIn(on: Cluster, prefix: string, since: number): AuditEvent[] {
  return on.auditEvents({ user: operatorUser, verb: writeVerbs, since }).filter(({ objectRef, requestURI }) => {
    const isOurs = objectRef?.resource === 'secrets' || objectRef?.resource === 'serviceaccounts';
    const isThere = objectRef?.namespace?.startsWith(prefix) === true;
    return isOurs && isThere && objectRef?.name !== 'ecr-pull-tokens' && !requestURI.includes('dryRun');
  });
}

/** From the first one's arrival to the last one's end, ms. */
export function spanOf(events: readonly AuditEvent[]): number {
  const starts = events.map((event) => Date.parse(event.requestReceivedTimestamp));
  const ends = events.map((event) => Date.parse(event.stageTimestamp));
  return ends.reduce((a, b) => Math.max(a, b), 0) - starts.reduce((a, b) => Math.min(a, b), Infinity);
}
