import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ApiServerProxy } from './apiServerProxy.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi, KubeObject } from './kubeApi.ts';
import { installDeploy, leaderOf, operatorNamespace, startOperator, type Operator } from './operator.ts';
import { isLong } from './scaled.ts';
import {
  authIn,
  createNamespaces,
  footprint,
  resource,
  resourcePath,
  servingWrites,
  told,
  waitForToken,
  waitUntilServed,
} from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// Two replicas, each before a proxy of its own that notes what it asks and when.

const leasePath = `/apis/coordination.k8s.io/v1/namespaces/${operatorNamespace}/leases/ecr-pull-secrets`;
const leaseMs = 15_000;
/** A refresh takes 50 namespaces a second: long enough to be interrupted in its middle. */
const namespaceCount = 300;

interface Replica {
  operator: Operator;
  proxy: ApiServerProxy;
}

interface Lease extends KubeObject {
  spec: { holderIdentity?: string; renewTime?: string; leaseDurationSeconds?: number };
}

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let namespaces: string[];
let replicas: Replica[] = [];

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  await installDeploy(cluster);
  namespaces = await createNamespaces(admin, namespaceCount);
  await admin.create(resource('production', { verification: { mode: 'Disabled' } }));
});
afterAll(async () => {
  await cluster?.stop();
  await ecr?.close();
});

afterEach(async () => {
  const running = replicas.filter(({ operator }) => operator.process.isRunning());
  await Promise.all(running.map(({ operator }) => operator.kill()));
  await Promise.all(replicas.map(({ proxy }) => proxy.close()));
  replicas = [];
  await admin.delete(leasePath);
});

async function startReplica(): Promise<Replica> {
  const proxy = await ApiServerProxy.start(cluster);
  const operator = await startOperator({ cluster, env: ecr.env, server: proxy.url });
  const replica = { operator, proxy };
  replicas.push(replica);
  return replica;
}

/** The leader first. */
async function startPair(): Promise<[Replica, Replica]> {
  const pair = await Promise.all([startReplica(), startReplica()]);
  const leader = await leaderOf(pair.map(({ operator }) => operator));
  const [one, other] = pair;
  const inOrder: [Replica, Replica] = one.operator === leader ? [one, other] : [other, one];
  await waitUntilServed(admin, namespaces, 90_000);
  return inOrder;
}

/** Writes of Secrets and ServiceAccounts of namespaces: when each came to the proxy, ms. */
function writesOf({ proxy }: Replica, since = 0): { namespace: string; time: number }[] {
  return proxy.requests.flatMap(({ method, path, time }) => {
    const [, namespace] = /^\/api\/v1\/namespaces\/(team-[^/]+)\/(?:secrets|serviceaccounts)\//.exec(path) ?? [];
    return method !== 'GET' && namespace !== undefined && time >= since ? [{ namespace, time }] : [];
  });
}

let requested = 0;

/** A new token for everybody; resolves when some namespaces have it and most have not. */
async function inTheMiddleOfAFanOut(leader: Replica): Promise<void> {
  const since = Date.now();
  await sleep(10_000 - Math.min(10_000, since - (ecr.calls.at(-1)?.time ?? 0))); // never within 10 s of the last one
  const annotation = { 'ecr.pullsecrets.io/refresh-requested-at': String(++requested) };
  await admin.patch(resourcePath(), { metadata: { annotations: annotation } });
  await eventually('the fan-out has begun', () => writesOf(leader, since).length >= 20);
  expect(writesOf(leader, since).length).toBeLessThan(namespaceCount);
}

/** The token that AWS gave last, as all namespaces are to hold it. */
async function lastToken(): Promise<string | undefined> {
  const tokens = [...(await footprint(admin)).values()].map((object) => authIn(object)).filter(Boolean);
  const live = new Map(tokens.map((auth) => [auth, ecr.issuedAtOf(auth ?? '')]));
  return [...live].sort(([, a], [, b]) => b - a)[0]?.[0];
}

async function everybodyHoldsTheLastToken(): Promise<void> {
  const auth = await lastToken();
  await waitForToken(admin, { namespaces, auth: () => auth, timeoutMs: 90_000 });
}

const isLeading = async ({ operator }: Replica) => (await operator.metric('ecr_pull_secrets_leader')) === 1;

test('the leader is killed in the middle of a fan-out: the other goes on within 20 s, and nothing is lost', async () => {
  const [leader, standby] = await startPair();
  expect(writesOf(standby)).toEqual([]);
  await inTheMiddleOfAFanOut(leader);
  const calls = ecr.calls.length;
  await leader.operator.kill();
  const died = performance.now();
  await eventually('the standby leads', () => isLeading(standby), 40_000);
  expect(performance.now() - died).toBeLessThan(20_000);
  await everybodyHoldsTheLastToken();
  expect(ecr.calls.length).toBe(calls);
});

test('the leader stands still in the middle of a fan-out, longer than its lease, and wakes in the middle of the next: no namespace is written by both', async () => {
  const [leader, standby] = await startPair();
  await inTheMiddleOfAFanOut(leader);
  leader.operator.pause();
  const stopped = Date.now();
  await eventually('the standby leads', () => isLeading(standby), 40_000);
  const handedOver = Date.now();
  await everybodyHoldsTheLastToken();
  const standstillMs = isLong ? 40_000 : 20_000;
  await sleep(Math.max(0, stopped + standstillMs - Date.now()));

  await inTheMiddleOfAFanOut(standby);
  leader.operator.cont();
  await everybodyHoldsTheLastToken();
  await sleep(2_000);
  expect(writesOf(leader, handedOver)).toEqual([]);
  expect(writesOf(standby, handedOver).length).toBeGreaterThanOrEqual(namespaceCount);
  // Awake, it stands by, and takes over like any other.
  expect(await leader.operator.metric('ecr_pull_secrets_leader')).toBe(0);
  expect((await leader.operator.health('readyz')).status).toBe(200);
  await standby.operator.kill();
  await eventually('it leads again', () => isLeading(leader), 40_000);
  await inTheMiddleOfAFanOut(leader);
  await everybodyHoldsTheLastToken();
});

describe('the lease', () => {
  beforeEach(async () => {
    await admin.delete(leasePath);
  });

  test('SIGTERM hands it over within 3 s, ends with 0 within 10 s, and costs no AWS call and no write', async () => {
    const [leader, standby] = await startPair();
    const calls = ecr.calls.length;
    const mark = cluster.auditMark();
    const from = performance.now();
    const ended = leader.operator.stop();
    await eventually('the standby leads', () => isLeading(standby), 20_000);
    expect(performance.now() - from).toBeLessThan(isLong ? 3_000 : 5_000);
    expect(await ended).toBe(0);
    expect(performance.now() - from).toBeLessThan(10_000);
    await sleep(3_000);
    expect(told(servingWrites(cluster, mark))).toEqual([]);
    expect(ecr.calls.length).toBe(calls);
  });

  test('SIGTERM in the middle of a fan-out ends with 0 within 10 s, and the other finishes it', async () => {
    const [leader, standby] = await startPair();
    await inTheMiddleOfAFanOut(leader);
    const from = performance.now();
    expect(await leader.operator.stop()).toBe(0);
    expect(performance.now() - from).toBeLessThan(10_000);
    const gone = Date.now();
    await everybodyHoldsTheLastToken();
    expect(writesOf(leader, gone)).toEqual([]);
    expect(await isLeading(standby)).toBe(true);
  });

  test('deleted, it is made anew within 20 s, and never do two lead', async () => {
    const pair = await startPair();
    await admin.delete(leasePath);
    const lease = await admin.waitFor<Lease>(leasePath, ({ spec }) => spec.holderIdentity, 20_000);
    await sleep(5_000);
    const leading = await Promise.all(pair.map(isLeading));
    expect(leading.filter(Boolean)).toHaveLength(1);
    expect((await admin.get<Lease>(leasePath))?.spec.holderIdentity).toBe(lease.spec.holderIdentity);
  });

  test.each([
    ['long ago', -3_600_000],
    ['in an hour, by its own clock', 3_600_000],
  ])('held by a name that is no pod, renewed %s: it is taken within 20 s', async (_, offsetMs) => {
    const renewTime = new Date(Date.now() + offsetMs).toISOString().replace('Z', '000Z');
    await admin.create({
      ...{ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' },
      metadata: { name: 'ecr-pull-secrets', namespace: operatorNamespace },
      spec: { holderIdentity: 'nobody', leaseDurationSeconds: leaseMs / 1000, acquireTime: renewTime, renewTime },
    });
    const replica = await startReplica();
    const from = performance.now();
    await eventually('it leads', () => isLeading(replica), 40_000);
    expect(performance.now() - from).toBeLessThan(20_000);
  });
});
