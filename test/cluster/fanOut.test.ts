import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type AuditEvent, writeVerbs } from './auditLog.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi } from './kubeApi.ts';
import { installDeploy, leaderOf, operatorUser, startOperator, type Operator } from './operator.ts';
import { scaled } from './scaled.ts';
import {
  askForRefresh,
  accountPath,
  authIn,
  createNamespaces,
  entriesOf,
  footprint,
  type PullSecretResource,
  resource,
  resourcePath,
  servingWrites,
  told,
  waitForCondition,
} from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// What a fan-out costs, by the API server's own audit log and the ECR's own count.

const N = 1_000;

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let namespaces: string[];
let operator: Operator;

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  await installDeploy(cluster);
  namespaces = await createNamespaces(admin, N);
});
afterAll(async () => {
  await cluster?.stop();
  await ecr?.close();
});

const start = () => startOperator({ cluster, env: ecr.env });

/** All that the operator wanted to change, but for its lease and what it asks by dry run. */
function changes(since: number): string[] {
  const events = cluster.auditEvents({ user: operatorUser, verb: writeVerbs, since });
  return told(events.filter((event) => event.objectRef?.resource !== 'leases' && !isQuestion(event)));
}

function isQuestion({ requestURI, objectRef }: AuditEvent): boolean {
  return requestURI.includes('dryRun=All') || objectRef?.resource === 'selfsubjectaccessreviews';
}

/** A new leader has looked at every namespace. */
async function waitUntilLookedAt(replica: Operator, count = N): Promise<void> {
  const sample = 'ecr_pull_secrets_namespaces{resource="production",state="ready"}';
  const looked = async () =>
    (await replica.metric('ecr_pull_secrets_leader')) === 1 && (await replica.metric(sample)) === count;
  await eventually('the leader has looked at every namespace', looked, 60_000);
}

/** Which of the namespaces hold another token than the one that ECR gave last. */
async function stale(among: readonly string[]): Promise<string[]> {
  const there = await footprint(admin);
  const issuedAt = (name: string) => ecr.issuedAtOf(authIn(there.get(name)) ?? '');
  const newest = Math.max(...among.map(issuedAt));
  return among.filter((name) => issuedAt(name) !== newest);
}

/** Asks for a refresh now, ten seconds after the last one at the earliest; resolves when the token is there. */
async function requestRefresh(): Promise<void> {
  const calls = ecr.calls.length;
  await sleep(Math.max(0, (ecr.calls.at(-1)?.time ?? 0) + 10_100 - Date.now()));
  await askForRefresh(admin);
  await eventually('ECR is asked', () => ecr.calls.length > calls, 20_000);
}

const status = async () => (await admin.get<PullSecretResource>(resourcePath()))?.status;

const writesPerNamespace = (events: readonly AuditEvent[]): Map<string, number> => {
  const counts = new Map(namespaces.map((name) => [name, 0]));
  for (const { objectRef } of events) {
    const namespace = objectRef?.namespace ?? '';
    counts.set(namespace, (counts.get(namespace) ?? 0) + 1);
  }
  return counts;
};

test('1,000 namespaces are served with one GetAuthorizationToken and two writes each', async () => {
  operator = await start();
  const mark = cluster.auditMark();
  await admin.create(resource());
  await admin.waitFor<PullSecretResource>(
    resourcePath(),
    ({ status }) => status?.namespacesReady === `${N}/${N}`,
    120_000,
  );
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
  const there = await footprint(admin);
  expect(there.size).toBe(2 * N);
  expect(new Set(namespaces.map((name) => authIn(there.get(name)))).size).toBe(1);
  expect(entriesOf(there.get('team-0/default') ?? null)).toEqual(['ecr-pull']);

  const writes = servingWrites(cluster, mark);
  expect(told(writes.filter(({ responseStatus }) => (responseStatus?.code ?? 0) >= 300))).toEqual([]);
  expect(new Set(writesPerNamespace(writes).values())).toEqual(new Set([2]));
  expect(writes.filter(({ objectRef }) => objectRef?.resource === 'secrets')).toHaveLength(N);
  expect(ecr.calls).toHaveLength(1);
});

test('steady, it writes nothing but its lease', async () => {
  await sleep(2_000); // a last count in the status
  const mark = cluster.auditMark();
  await sleep(scaled(300_000));
  expect(changes(mark)).toEqual([]);
  const leases = cluster.auditEvents({ user: operatorUser, resource: 'leases', verb: writeVerbs, since: mark });
  expect(leases.length).toBeGreaterThan(5);
});

test('a restart costs no AWS call, and no write but of the lease', async () => {
  const before = await status();
  expect(await operator.stop()).toBe(0);
  const mark = cluster.auditMark();
  operator = await start();
  await waitUntilLookedAt(operator);
  await sleep(3_000);
  expect(await status()).toEqual(before);
  expect(changes(mark)).toEqual([]);
  expect(ecr.calls).toHaveLength(1);
});

test('a failover after SIGKILL costs no AWS call, and no write but of the lease', async () => {
  const standby = await start();
  expect(await leaderOf([operator, standby])).toBe(operator);
  const mark = cluster.auditMark();
  await operator.kill();
  operator = standby;
  await waitUntilLookedAt(operator);
  await sleep(3_000);
  expect(changes(mark)).toEqual([]);
  expect(ecr.calls).toHaveLength(1);
});

test('a refresh costs one GetAuthorizationToken and one write of each Secret, in place', async () => {
  const uids = [...(await footprint(admin)).values()].map(({ metadata }) => metadata.uid);
  const mark = cluster.auditMark();
  await requestRefresh();
  await eventually(
    'every Secret holds the new token',
    () => servingWrites(cluster, mark).length >= N && stale(namespaces).then((names) => names.length === 0),
    120_000,
  );
  await sleep(1_000);
  const writes = servingWrites(cluster, mark);
  expect(new Set(writesPerNamespace(writes).values())).toEqual(new Set([1]));
  expect(writes.filter(({ objectRef }) => objectRef?.resource !== 'secrets')).toEqual([]);
  expect(ecr.calls).toHaveLength(2);
  expect([...(await footprint(admin)).values()].map(({ metadata }) => metadata.uid)).toEqual(uids);
});

test('foreign Secrets of 100 kB in served namespaces cost it nothing: none is ever listed', async () => {
  const restarted = async () => {
    expect(await operator.stop()).toBe(0);
    operator = await start();
    await waitUntilLookedAt(operator);
    await sleep(1_000);
    return operator.memory();
  };
  const without = await restarted();
  const count = scaled(5_000);
  const data = { blob: randomBytes(75_000).toString('base64') };
  const worker = async (first: number) => {
    for (let i = first; i < count; i += 8) {
      await admin.create({
        ...{ apiVersion: 'v1', kind: 'Secret', data },
        metadata: { name: `foreign-${i}`, namespace: namespaces[i % N] ?? '' },
      });
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, first) => worker(first)));
  const mark = cluster.auditMark();
  const beside = await restarted();
  expect(beside - without).toBeLessThan(25e6);
  expect(changes(mark)).toEqual([]);

  const reads = cluster.auditEvents({ user: operatorUser, resource: 'secrets', verb: ['get', 'list', 'watch'] });
  const everywhere = reads.filter(({ objectRef }) => objectRef?.namespace === undefined);
  expect(everywhere.length).toBeGreaterThan(0);
  expect(reads.filter(({ requestURI }) => !isOfOneName(requestURI)).map((event) => event.requestURI)).toEqual([]);
});

/** A list or watch with the field selector, or a GET by name. */
function isOfOneName(uri: string): boolean {
  return uri.includes('fieldSelector=metadata.name%3D') || /\/secrets\/[^/?]+(\?|$)/.test(uri);
}

test('a hundred namespaces vanish in the middle of a refresh: the others are fresh in the usual time, nothing is left in the status', async () => {
  const gone = new Set(namespaces.filter((_, i) => i % 10 === 3));
  const left = namespaces.filter((name) => !gone.has(name));
  const mark = cluster.auditMark();
  await requestRefresh();
  await eventually('the refresh has begun', () => servingWrites(cluster, mark).length > 20, 30_000);
  const from = performance.now();
  await Promise.all([...gone].map((name) => admin.delete(`/api/v1/namespaces/${name}`)));
  expect(servingWrites(cluster, mark).length).toBeLessThan(N);
  await eventually('the others are fresh', async () => (await stale(left)).length === 0, 120_000);
  expect(performance.now() - from).toBeLessThan(60_000);

  const served = `${left.length}/${left.length}`;
  const after = await admin.waitFor<PullSecretResource>(
    resourcePath(),
    ({ status }) => status?.namespacesReady === served,
    90_000,
  );
  expect(after.status?.failures ?? []).toEqual([]);
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
  await eventually(
    'they are gone',
    async () => {
      return (await admin.list('/api/v1/namespaces')).every(({ metadata }) => !gone.has(metadata.name));
    },
    120_000,
  );
  const late = cluster.auditEvents({ user: operatorUser, verb: writeVerbs, since: mark, code: 403 });
  expect(told(late)).toEqual([]);
  expect(operator.logs(({ level }) => level === 'error')).toEqual([]);
  expect(await operator.metric('ecr_pull_secrets_namespaces{resource="production",state="failed"}')).toBe(0);
  expect(await admin.get(accountPath('team-3'))).toBeNull();
});
