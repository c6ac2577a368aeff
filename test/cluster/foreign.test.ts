import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ApiServerProxy, type Fault, type ProxiedRequest } from './apiServerProxy.ts';
import { writeVerbs } from './auditLog.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi, KubeObject } from './kubeApi.ts';
import { installDeploy, operatorUser, startOperator, type Operator } from './operator.ts';
import {
  askForRefresh,
  accountPath,
  authIn,
  conditionOf,
  createNamespaces,
  entriesOf,
  type PullSecretResource,
  resource,
  resourcePath,
  secretPath,
  told,
  waitForCondition,
  waitUntilServed,
} from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// What is not ours stays as it is, and a namespace that is on its way out is left in peace.

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let proxy: ApiServerProxy;
let operator: Operator;

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  proxy = await ApiServerProxy.start(cluster);
  await installDeploy(cluster);
  await createNamespaces(admin, 2);
});
afterAll(async () => {
  await proxy?.close();
  await cluster?.stop();
  await ecr?.close();
});

const start = () => startOperator({ cluster, env: ecr.env, server: proxy.url });

const status = async () => (await admin.read<PullSecretResource>(resourcePath())).status;

/** All that the operator tried to change in these namespaces, events too. */
function writesIn(namespaces: readonly string[], since = 0): string[] {
  const events = cluster.auditEvents({ user: operatorUser, verb: writeVerbs, since });
  return told(events.filter(({ objectRef }) => namespaces.includes(objectRef?.namespace ?? '')));
}

/** Nothing of an answer arrives but its head. */
async function* nothing(bytes: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  for await (const chunk of bytes) yield chunk.subarray(0, 0);
}

/** A new token for everybody who is served, ten seconds after the last one at the earliest. */
async function refresh(): Promise<void> {
  const before = authIn(await admin.read(secretPath('team-0')));
  await askForRefresh(admin);
  await admin.waitFor(secretPath('team-0'), (secret: KubeObject) => authIn(secret) !== before);
}

const data = { '.dockerconfigjson': Buffer.from('{"auths":{"foreign.example":{"auth":"YTpi"}}}').toString('base64') };
const type = 'kubernetes.io/dockerconfigjson';

function foreignSecret(namespace: string, labels: Record<string, string> = {}): KubeObject {
  return { apiVersion: 'v1', kind: 'Secret', type, data, metadata: { name: 'ecr-pull', namespace, labels } };
}

describe('a foreign Secret of our name', () => {
  const managedBy = 'app.kubernetes.io/managed-by';
  const foreign: Record<string, (namespace: string) => Promise<unknown>> = {
    'foreign-plain': (name) => admin.create(foreignSecret(name)),
    'foreign-helm': (name) => admin.create(foreignSecret(name, { [managedBy]: 'Helm' })),
    'foreign-shouted': (name) => admin.create(foreignSecret(name, { [managedBy]: 'ECR-pull-secrets' })),
    'foreign-applied': (name) => admin.apply(foreignSecret(name), { manager: 'helm' }),
    'foreign-opaque': (name) => admin.create({ ...foreignSecret(name), type: 'Opaque' }),
  };
  const namespaces = Object.keys(foreign);
  let before: KubeObject[];

  /** The message about a namespace in the status. */
  const failureOf = async (namespace: string) =>
    (await status())?.failures?.find((failure) => failure.namespace === namespace)?.message ?? '';

  /** The command that a message gives, as one would paste it. */
  async function runAdviceOf(message: string, verb: 'label --overwrite' | 'delete'): Promise<void> {
    const [, args = ''] = new RegExp(`kubectl (-n \\S+ ${verb} [^()]*?)\\s*(\\(|$)`).exec(message) ?? [];
    expect([message, args]).toEqual([message, expect.stringContaining(`${verb} secret ecr-pull`)]);
    await cluster.kubectl(...args.split(' '));
  }

  const isBlocked = async () => conditionOf(await admin.get(resourcePath()), 'Blocked') !== undefined;

  const blockedNamespaces = () => operator.metric('ecr_pull_secrets_namespaces{resource="production",state="blocked"}');

  beforeAll(async () => {
    for (const [name, create] of Object.entries(foreign)) {
      await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
      await admin.waitFor(accountPath(name));
      await create(name);
    }
    before = await Promise.all(namespaces.map((name) => admin.read(secretPath(name))));
    operator = await start();
    await admin.create(resource());
    await waitUntilServed(admin, ['team-0', 'team-1']);
  });

  test('is told by condition, status, event and metric, and leaves Ready alone', async () => {
    const blocked = await waitForCondition(admin, 'Blocked', ({ message }) => message.startsWith('5 of 7 namespaces'));
    expect(blocked).toMatchObject({ status: 'True', reason: 'ForeignSecret' });
    await waitForCondition(admin, 'Ready', (condition) => condition.status === 'True');
    const { namespacesReady, failures = [] } = (await status()) ?? {};
    expect(namespacesReady).toBe('2/7');
    expect(failures.map(({ namespace }) => namespace).toSorted()).toEqual(namespaces.toSorted());
    expect(await blockedNamespaces()).toBe(5);
    await eventually('there is an event', async () => {
      const path = '/apis/events.k8s.io/v1/namespaces/default/events';
      const events = await admin.list<KubeObject & { type: string; reason: string; action: string }>(path);
      return events.some((event) => event.type === 'Warning' && event.reason === 'ForeignSecret');
    });
  });

  test('is never touched: not at first, not by a refresh, not after a restart', async () => {
    await refresh();
    expect(await operator.stop()).toBe(0);
    operator = await start();
    await eventually('the new leader has looked', async () => (await blockedNamespaces()) === 5);
    await refresh();
    expect(await Promise.all(namespaces.map((name) => admin.read(secretPath(name))))).toEqual(before);
    const accounts = await Promise.all(namespaces.map((name) => admin.read(accountPath(name))));
    expect(accounts.flatMap(entriesOf)).toEqual([]);
    expect(writesIn(namespaces)).toEqual([]);
  });

  test.each(namespaces.slice(0, 4))('%s is handed over by the one label of the message', async (name) => {
    const { uid } = (await admin.read(secretPath(name))).metadata;
    await runAdviceOf(await failureOf(name), 'label --overwrite');
    await waitUntilServed(admin, [name], 10_000);
    const ours = authIn(await admin.read(secretPath('team-0')));
    const secret = await admin.waitFor(secretPath(name), (secret: KubeObject) => authIn(secret) === ours, 10_000);
    expect(secret.metadata.uid).toBe(uid);
  });

  test('one of another type is handed over by the label and its deletion, as the message then says', async () => {
    const name = 'foreign-opaque';
    await runAdviceOf(await failureOf(name), 'label --overwrite');
    await eventually('the message tells', async () => /another type/.test(await failureOf(name)), 10_000);
    const { resourceVersion } = (await admin.read(secretPath(name))).metadata;
    await sleep(1_000);
    expect((await admin.read(secretPath(name))).metadata.resourceVersion).toBe(resourceVersion);
    await runAdviceOf(await failureOf(name), 'delete');
    await waitUntilServed(admin, [name], 10_000);
    await eventually('nothing is blocked any more', async () => !(await isBlocked()), 10_000);
    expect((await status())?.failures ?? []).toEqual([]);
    expect(await blockedNamespaces()).toBe(0);
  });

  test('that has taken the place of ours is told, left alone, and forgotten when it is gone', async () => {
    operator.pause();
    await admin.delete(secretPath('team-1'));
    const { metadata } = await admin.create(foreignSecret('team-1'));
    operator.cont();
    await waitForCondition(admin, 'Blocked', ({ message }) => message.startsWith('1 of 7 namespaces: team-1'));
    await sleep(1_000);
    expect((await admin.read(secretPath('team-1'))).metadata).toEqual(metadata);
    await admin.delete(secretPath('team-1'));
    await waitUntilServed(admin, ['team-1'], 10_000);
    await eventually('nothing is blocked any more', async () => !(await isBlocked()), 10_000);
    expect((await status())?.failures ?? []).toEqual([]);
  });

  const unseen: [how: string, fault: () => Fault, isTried: boolean][] = [
    // It is looked at instead.
    ['as it is down', () => ({ answer: { status: 503 } }), false],
    ['as nothing comes', () => ({ body: nothing }), true],
  ];
  const isSecretWatch = ({ path, isWatch }: ProxiedRequest) => isWatch && path.startsWith('/api/v1/secrets?');
  test.each(unseen)('that the watch has not shown yet, %s, is left alone, too', async (_, fault, isTried) => {
    proxy.fault = (request) => (isSecretWatch(request) ? fault() : null);
    onTestFinished(() => {
      proxy.fault = () => null;
      proxy.reset();
    });
    const since = proxy.requests.length;
    proxy.reset();
    await eventually('it watches again', () => proxy.requests.slice(since).some(isSecretWatch));
    await sleep(500); // until the head of the answer is there
    const name = `foreign-unseen-${isTried}`;
    const mark = cluster.auditMark();
    const ignore = 'ecr.pullsecrets.io/ignore';
    await admin.create({
      ...{ apiVersion: 'v1', kind: 'Namespace' },
      metadata: { name, annotations: { [ignore]: 'true' } },
    });
    await admin.waitFor(accountPath(name));
    const { metadata } = await admin.create(foreignSecret(name));
    await admin.patch(`/api/v1/namespaces/${name}`, { metadata: { annotations: { [ignore]: null } } });
    await waitForCondition(admin, 'Blocked', ({ message }) => message.includes(`namespaces: ${name}`));
    expect(writesIn([name], mark).slice(0, 1)).toEqual(isTried ? [`patch ${name}/secrets/ecr-pull: 409`] : []);
    expect((await admin.read(secretPath(name))).metadata).toEqual(metadata);
    await admin.delete(`/api/v1/namespaces/${name}`);
    await eventually('nothing is blocked any more', async () => !(await isBlocked()), 20_000);
  });
});

describe('a namespace that is on its way out', () => {
  const leaving = Array.from({ length: 20 }, (_, i) => `leaving-${i}`);
  const [held = '', heldByOurs = '', gone = ''] = leaving; // two stay on their way: a finalizer holds something in them
  const finalizers = ['example.org/keep'];

  const warnings = () => operator.logs(({ level }) => level === 'warn' || level === 'error');

  test('is left in peace: no write, no event, no warning, and the status does not know it', async () => {
    await createNamespaces(admin, leaving.length, 'leaving');
    await waitUntilServed(admin, leaving);
    await waitForCondition(admin, 'Ready', ({ message }) => message.endsWith('in 27 namespaces'));
    await admin.create({
      ...{ apiVersion: 'v1', kind: 'ConfigMap' },
      metadata: { name: 'kept', namespace: held, finalizers } as KubeObject['metadata'],
    });
    await admin.patch(secretPath(heldByOurs), { metadata: { finalizers } });
    const mark = cluster.auditMark();
    const warnedBefore = warnings().length;
    await Promise.all(leaving.map((name) => admin.delete(`/api/v1/namespaces/${name}`)));
    const left = async () =>
      (await admin.list('/api/v1/namespaces')).filter(({ metadata }) => leaving.includes(metadata.name));
    await eventually('two are left', async () => (await left()).length === 2, 60_000);

    await admin.patch(secretPath(heldByOurs), { data, metadata: { labels: null } }, { manager: 'mallory' });
    await refresh();
    expect(await operator.stop()).toBe(0);
    expect(warnings().slice(warnedBefore)).toEqual([]);
    operator = await start();
    await sleep(6_000); // longer than a removal waits
    expect(writesIn(leaving, mark)).toEqual([]);
    expect(warnings()).toEqual([]);
    expect(authIn(await admin.read(secretPath(heldByOurs)))).toBeUndefined();
    await waitForCondition(admin, 'Ready', ({ message }) => message.endsWith('in 7 namespaces'));
    expect(await status()).toMatchObject({ namespacesReady: '7/7', failures: [] });
    expect(conditionOf(await admin.get(resourcePath()), 'Ready')?.status).toBe('True');
  });

  test('made again, it is served again: the operator had not stopped looking', async () => {
    const mark = cluster.auditMark();
    await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: gone } });
    await waitUntilServed(admin, [gone], 10_000);
    expect(writesIn([gone], mark).length).toBeGreaterThan(0);
    expect(writesIn([held, heldByOurs], mark)).toEqual([]);
  });
});
