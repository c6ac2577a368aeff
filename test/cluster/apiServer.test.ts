import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { resourcesPath } from '../../src/api/groupVersion.ts';
import { ApiServerProxy, type InjectedAnswer, type ProxiedRequest } from './apiServerProxy.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi } from './kubeApi.ts';
import { installDeploy, startOperator, type Operator } from './operator.ts';
import { isLong, scaled } from './scaled.ts';
import {
  accountPath,
  createNamespace,
  createNamespaces,
  entriesOf,
  resource,
  resourcePath,
  secretPath,
  servingWrites,
  told,
  versions,
  waitForCondition,
  waitUntilServed,
} from './served.ts';
import { StandInEcr } from './standInEcr.ts';
import { collectionOf, collections, everyWatchStands } from './watched.ts';

// Between the operator and its API server everything goes wrong that does in the field. It never ends, never removes
// anything, and is whole again soon after.

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let proxy: ApiServerProxy;
let operator: Operator;
let namespaces: string[];

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  proxy = await ApiServerProxy.start(cluster);
  await installDeploy(cluster);
  namespaces = await createNamespaces(admin, 10);
  await admin.create(resource());
  operator = await startOperator({ cluster, env: ecr.env, server: proxy.url, args: ['--removal-delay=1s'] });
  await waitUntilServed(admin, namespaces);
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
});
afterEach(() => {
  proxy.inject = () => null;
  proxy.fault = () => null;
  proxy.endWatches = null;
});
afterAll(async () => {
  await proxy?.close();
  await cluster?.stop();
  await ecr?.close();
});

let made = 0;

/** A namespace made now is served, which needs every watch. */
async function isWhole(timeoutMs = 30_000): Promise<void> {
  const name = `probe-${++made}`;
  await createNamespace(admin, name);
  await waitUntilServed(admin, [name], timeoutMs);
  await admin.delete(secretPath(name));
  await waitUntilServed(admin, [name], timeoutMs);
  namespaces.push(name);
}

const kinds = ['Namespace', 'ServiceAccount', 'Secret', 'ClusterECRPullSecret', 'CustomResourceDefinition'];

/** How far behind the operator says it is, in seconds, kind by kind. */
async function staleness(): Promise<number[]> {
  const samples = kinds.map((kind) => operator.metric(`ecr_pull_secrets_reflector_staleness_seconds{kind="${kind}"}`));
  return (await Promise.all(samples)).map((seconds) => seconds ?? NaN);
}

async function isAlive(): Promise<void> {
  expect(operator.process.isRunning()).toBe(true);
  expect((await operator.health('healthz')).status).toBe(200);
}

const status = (code: number, reason: string, more: object = {}): InjectedAnswer => ({
  status: code,
  body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message: `injected ${reason}`, ...more },
});

const html: InjectedAnswer = { status: 200, body: '<html><body>Please log in</body></html>' };

const isList = ({ method, path, isWatch }: ProxiedRequest) => method === 'GET' && !isWatch && !isLease(path);
const isLease = (path: string) => path.includes('/leases');

/** The first two watches of each kind that come now are answered so. Resolves when each has been listed since. */
async function eachIsListedAfter(answer: InjectedAnswer): Promise<void> {
  await everyWatchStands([proxy]);
  const since = proxy.requests.length;
  const refused: string[] = [];
  proxy.inject = (request) => {
    const collection = collectionOf(request);
    if (!request.isWatch || refused.filter((one) => one === collection).length >= 2) return null;
    refused.push(collection);
    return answer;
  };
  proxy.reset();
  await eventually('each kind is listed anew', () => {
    const listed = new Set(proxy.requests.slice(since).filter(isList).map(collectionOf));
    const missing = collections.filter((collection) => !refused.includes(collection) || !listed.has(collection));
    if (missing.length > 0) throw new Error(`not yet ${missing.join(', ')}`);
    return true;
  });
}

/**
 * The watches of these end and the next ones are refused as too old, until a list of each has been answered so. From then
 * on they stand and show nothing: whoever took the list for a good one has no reason to doubt it.
 */
async function listAs(answer: InjectedAnswer, of: readonly string[], answered: Set<string>): Promise<void> {
  const isMeant = (request: ProxiedRequest) => request.method === 'GET' && of.includes(collectionOf(request));
  proxy.fault = (request) => {
    if (!isMeant(request)) return null;
    const collection = collectionOf(request);
    if (request.isWatch && answered.has(collection)) return { before: () => new Promise(() => undefined) };
    if (!request.isWatch) answered.add(collection);
    return { answer: request.isWatch ? status(410, 'Expired') : answer };
  };
  proxy.endStreams((request) => request.isWatch && isMeant(request));
  await eventually('a list of each was answered so', () => of.every((collection) => answered.has(collection)));
}

describe('watches', () => {
  test.each(['end', 'reset'] as const)(
    'that all %s after a good second: none of many changes is missed, and none costs a list',
    async (by) => {
      proxy.endWatches = { afterMs: 1_300, by };
      proxy.reset();
      await sleep(1_000);
      const since = proxy.requests.length;
      const count = scaled(200, 40);
      const late = await createNamespaces(admin, count, `late-${by}`);
      await waitUntilServed(admin, late, 90_000);
      await sleep(scaled(60_000));
      const lists = proxy.requests.slice(since).filter(isList);
      // While a watch is away, an object is read before it is written to.
      const isOne = (path: string) => /\/(secrets|serviceaccounts)\//.test(path);
      expect(lists.map(({ path }) => path).filter((path) => !isOne(path))).toEqual([]);
      proxy.endWatches = null;
      await isWhole();
      await Promise.all(late.map((name) => admin.delete(`/api/v1/namespaces/${name}`)));
    },
  );

  test('that are cut while namespaces are deleted: nothing is written to them, and who learns of it by a refusal does not try again', async () => {
    const doomed = await createNamespaces(admin, 10, 'doomed');
    await waitUntilServed(admin, doomed);
    let isCut = true;
    proxy.inject = ({ isWatch }) => (isWatch && isCut ? status(503, 'ServiceUnavailable') : null);
    proxy.reset();
    const mark = cluster.auditMark();
    await Promise.all(doomed.map((name) => admin.delete(`/api/v1/namespaces/${name}`)));
    await Promise.all(doomed.map((name) => admin.waitForAbsence(`/api/v1/namespaces/${name}`, 60_000)));
    await sleep(scaled(60_000, 25_000)); // until what fails so often is listed anew, each kind in its time
    isCut = false;
    await isWhole(60_000);
    await sleep(2_000);
    const tries = told(servingWrites(cluster, mark)).filter((write) => write.includes('doomed-'));
    expect(tries.filter((write) => !/: 40[34]$/.test(write))).toEqual([]);
    expect(tries).toEqual([...new Set(tries)]);
  });

  test('that go silent (in CI reset: silence is found after 150 s, so in full with --long only): nothing is missed', async () => {
    if (isLong) expect(proxy.silence()).toBeGreaterThanOrEqual(kinds.length);
    else {
      console.log('watches are reset instead of going silent: silence is found after 150 s (--long)');
      proxy.reset();
    }
    await admin.patch(accountPath('team-0'), { imagePullSecrets: null });
    if (isLong) {
      await sleep(60_000);
      expect(Math.min(...(await staleness()))).toBeGreaterThan(55);
    }
    const repaired = () => admin.get(accountPath('team-0'));
    await eventually(
      'it is repaired',
      async () => entriesOf(await repaired()).includes('ecr-pull'),
      isLong ? 180_000 : 30_000,
    );
    await isWhole();
  });

  test('whose resourceVersion is too old (410): listed anew, nothing is written', async () => {
    const mark = cluster.auditMark();
    await eachIsListedAfter(status(410, 'Expired'));
    await isWhole();
    expect(told(servingWrites(cluster, mark)).filter((write) => !write.includes('probe-'))).toEqual([]);
  });

  test('that end in an ERROR event 410: the same', async () => {
    const mark = cluster.auditMark();
    const event = { type: 'ERROR', object: { kind: 'Status', apiVersion: 'v1', code: 410, reason: 'Expired' } };
    const answer = {
      ...{ status: 200, headers: { 'content-type': 'application/json' } },
      body: `${JSON.stringify(event)}\n`, // without its end it would be no event
    };
    await eachIsListedAfter(answer);
    await isWhole();
    expect(told(servingWrites(cluster, mark)).filter((write) => !write.includes('probe-'))).toEqual([]);
  });
});

describe('answers that are not what they seem', () => {
  const emptied: [name: string, answer: InjectedAnswer][] = [
    ['HTML as 200', html],
    ['an empty body', { status: 200, body: '' }],
    [
      'a list without the key items',
      { status: 200, body: { kind: 'List', apiVersion: 'v1', metadata: { resourceVersion: '1' } } },
    ],
    ['404', status(404, 'NotFound')],
    ['403', status(403, 'Forbidden')],
    ['500', status(500, 'InternalError')],
  ];
  // Answered so while the namespaces are known, a list of resources that was read as empty would be the end of every
  // Secret. The CustomResourceDefinition is read as it is, so that nothing else holds a removal back.
  test.each(emptied)(
    '%s in place of the lists of resources, then of every list: nothing is removed, and it is whole again',
    async (_, answer) => {
      await everyWatchStands([proxy]);
      const before = await versions(admin);
      const mark = cluster.auditMark();
      const answered = new Set<string>();
      await listAs(answer, [resourcesPath], answered);
      await sleep(scaled(30_000, 3_000)); // longer than a removal waits
      await listAs(answer, collections, answered);
      await sleep(scaled(30_000, 1_500));
      await isAlive();
      expect(Math.max(...(await staleness()))).toBeGreaterThan(4);
      expect(told(servingWrites(cluster, mark))).toEqual([]);
      expect(await versions(admin)).toEqual(before);
      proxy.fault = () => null;
      await isWhole(60_000);
      // Of the kinds that the probe has changed, within the minute that it may take; the others prove themselves by a
      // bookmark, about once a minute.
      expect(Math.max(...(await staleness()).slice(0, 3))).toBeLessThan(60);
      expect(await versions(admin)).toMatchObject(before);
    },
  );

  test('a list of resources that comes back empty, while the others are unread: nothing is removed before all are read', async () => {
    const before = await versions(admin);
    const mark = cluster.auditMark();
    await admin.delete(resourcePath());
    const isSecrets = (path: string) => path.startsWith('/api/v1/secrets');
    proxy.inject = (request) => (isSecrets(request.path) && isReading(request) ? status(403, 'Forbidden') : null);
    const isReading = (request: ProxiedRequest) => isList(request) || request.isWatch;
    proxy.reset();
    await sleep(12_000);
    expect(told(servingWrites(cluster, mark))).toEqual([]);
    await admin.create(resource());
    proxy.inject = () => null;
    await isWhole(60_000);
    expect(await versions(admin)).toMatchObject(before);
  });

  test('401 to everything for a while: the API server is blamed, not AWS; no exit, and whole again', async () => {
    const calls = ecr.calls.length;
    proxy.inject = () => status(401, 'Unauthorized');
    proxy.reset();
    await sleep(scaled(60_000, 15_000));
    await isAlive();
    const lines = operator.logs(({ level }) => level === 'warn' || level === 'error');
    const blamed = lines.filter(
      (line) => /API server/.test(JSON.stringify(line)) && /401|Unauthorized/.test(JSON.stringify(line)),
    );
    expect(blamed.length).toBeGreaterThan(0);
    proxy.inject = () => null;
    await isWhole(60_000);
    expect(ecr.calls.length).toBe(calls);
  });

  test('401 to everything at the start: it lives, says so, and serves afterwards', async () => {
    await operator.kill();
    proxy.inject = () => status(401, 'Unauthorized');
    operator = await startOperator({ cluster, env: ecr.env, server: proxy.url, waitUntilReady: false });
    const { text } = await eventually('/readyz tells', async () => {
      const answer = await operator.health('readyz');
      return answer.status === 503 && /API server/.test(answer.text) && answer;
    });
    expect(text).toMatch(/401|Unauthorized/);
    await sleep(scaled(60_000, 10_000));
    await isAlive();
    proxy.inject = () => null;
    await operator.waitUntilReady(60_000);
    await isWhole(60_000);
  });
});

describe('a server that asks for patience', () => {
  test('429 with Retry-After: nothing is asked again before its time; afterwards whole within 30 s', async () => {
    const retryAfterMs = 5_000;
    const refusedAt = new Map<string, number[]>();
    proxy.inject = ({ method, path }) => {
      const asked = `${method} ${path.split('?')[0]}${/[?&]watch=/.test(path) ? ' (watch)' : ''}`;
      refusedAt.set(asked, [...(refusedAt.get(asked) ?? []), performance.now()]);
      return { ...status(429, 'TooManyRequests'), headers: { 'retry-after': String(retryAfterMs / 1000) } };
    };
    proxy.reset();
    await admin.patch(accountPath('team-1'), { imagePullSecrets: null });
    await admin.delete(secretPath('team-2'));
    await sleep(scaled(60_000, 20_000));
    const hasty = [...refusedAt].flatMap(([asked, times]) =>
      times.slice(1).flatMap((time, i) => {
        const waited = time - (times[i] ?? 0);
        return waited < retryAfterMs - 50 ? [`${asked}: after ${Math.round(waited)} ms`] : [];
      }),
    );
    // A watch and its list share a path and are one asker; kept connections that were cut are tried again at once.
    expect(hasty).toEqual([]);
    proxy.inject = () => null;
    const from = performance.now();
    await waitUntilServed(admin, namespaces, 60_000);
    await isWhole();
    expect(performance.now() - from).toBeLessThan(30_000);
  });

  test('503 without Retry-After: the rate falls; afterwards whole within 30 s', async () => {
    const times: number[] = [];
    proxy.inject = () => {
      times.push(performance.now());
      return status(503, 'ServiceUnavailable');
    };
    proxy.reset();
    const begun = performance.now();
    const fullMs = scaled(60_000, 20_000);
    await sleep(fullMs);
    const inFirstHalf = times.filter((time) => time - begun < fullMs / 2).length;
    const inSecondHalf = times.length - inFirstHalf;
    expect(inSecondHalf).toBeLessThan(inFirstHalf);
    expect(times.length / (fullMs / 1000), 'requests a second').toBeLessThan(10);
    await isAlive();
    proxy.inject = () => null;
    const from = performance.now();
    await isWhole(60_000);
    expect(performance.now() - from).toBeLessThan(30_000);
  });
});

// Late, as the controller manager comes back by back-offs of its own, and the tests above need it to end namespaces.
describe('the API server', () => {
  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'restarted by %s: nothing is written, and it is whole within 30 s',
    async (signal) => {
      const before = await versions(admin);
      const mark = cluster.auditMark();
      await cluster.stopApiServer(signal);
      await sleep(scaled(60_000, 8_000));
      await isAlive();
      const behind = await staleness();
      expect(Math.min(...behind), `it says how far behind it is: ${behind.join()}`).toBeGreaterThan(5);
      await cluster.startApiServer();
      await isWhole();
      expect(told(servingWrites(cluster, mark)).filter((write) => !write.includes('probe-'))).toEqual([]);
      expect(await versions(admin)).toMatchObject(before);
    },
  );
});

describe('a process that stood still', () => {
  test('wakes with its token past its end: a fresh one within 5 s, at the first try or the one right after', async () => {
    await operator.kill();
    ecr.lifeMs = scaled(300_000);
    ecr.oldestSignatureMs = 15_000;
    operator = await startOperator({ cluster, env: ecr.env });
    await admin.patch(resourcePath(), {
      metadata: { annotations: { 'ecr.pullsecrets.io/refresh-requested-at': 'wake' } },
    });
    const calls = ecr.calls.length;
    await eventually('it has asked for a token of that life', () => ecr.calls.length > calls, 40_000);
    await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
    operator.pause();
    await sleep(scaled(900_000, ecr.lifeMs + 10_000) > 90_000 ? 90_000 : ecr.lifeMs + 10_000);
    const awake = Date.now();
    const before = ecr.calls.length;
    operator.cont();
    await eventually(
      'a fresh token is there',
      () => ecr.calls.slice(before).some(({ status }) => status === 200),
      30_000,
    );
    expect(Date.now() - awake).toBeLessThan(5_000);
    await isWhole();
    await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
  });

  test('SIGTERM ends it with 0', async () => {
    expect(await operator.stop()).toBe(0);
  });
});
