import { afterAll, beforeAll, expect, test } from 'vitest';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi, KubeObject } from './kubeApi.ts';
import { installDeploy, startOperator, type Operator } from './operator.ts';
import {
  accountPath,
  createNamespaces,
  entriesOf,
  footprint,
  resource,
  secretPath,
  versions,
  waitForCondition,
  waitUntilServed,
} from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// A right is taken away while the operator runs, and given back: nobody restarts it.

const rolePath = '/apis/rbac.authorization.k8s.io/v1/clusterroles/ecr-pull-secrets';

interface Rule {
  resources: string[];
  verbs: string[];
}

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let operator: Operator;
let rules: Rule[];
let namespaces: string[];

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  await installDeploy(cluster);
  rules = (await admin.get<KubeObject & { rules: Rule[] }>(rolePath))?.rules ?? [];
  namespaces = await createNamespaces(admin, 6);
  await admin.create(resource());
  operator = await startOperator({ cluster, env: ecr.env });
  await waitUntilServed(admin, namespaces);
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
});
afterAll(async () => {
  await cluster?.stop();
  await ecr?.close();
});

async function take(verbs: readonly string[], resource: string): Promise<void> {
  const without = rules.map((rule) =>
    rule.resources.includes(resource) ? { ...rule, verbs: rule.verbs.filter((verb) => !verbs.includes(verb)) } : rule,
  );
  await admin.patch(rolePath, { rules: without.filter((rule) => rule.verbs.length > 0) });
}

async function giveBack(): Promise<void> {
  await admin.patch(rolePath, { rules });
}

async function newNamespace(name: string): Promise<void> {
  await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  await admin.waitFor(accountPath(name));
}

/** Recovered within a minute of the right's return, with the same process. */
async function recovers(): Promise<void> {
  const { pid } = operator;
  await giveBack();
  const from = performance.now();
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True', { timeoutMs: 90_000 });
  expect(performance.now() - from).toBeLessThan(60_000);
  expect(operator.process.isRunning() && operator.pid).toBe(pid);
}

test('without patch on ServiceAccounts: Secrets are made on, the condition names verb and resource, and it recovers', async () => {
  await take(['patch'], 'serviceaccounts');
  await newNamespace('late-1');
  await admin.waitFor(secretPath('late-1'));
  const ready = await waitForCondition(admin, 'Ready', ({ reason }) => reason === 'MissingPermission');
  expect(ready).toMatchObject({ status: 'False', message: expect.stringContaining('patch serviceaccounts') as string });
  // It has stopped trying; what needs no ServiceAccount goes on.
  await newNamespace('late-2');
  await admin.waitFor(secretPath('late-2'));
  const before = (await admin.get(secretPath('team-0')))?.metadata.resourceVersion;
  ecr.lifeMs /= 2;
  await cluster.kubectl('annotate', 'cecr', 'production', 'ecr.pullsecrets.io/refresh-requested-at=1', '--overwrite');
  await admin.waitFor(secretPath('team-0'), ({ metadata }) => metadata.resourceVersion !== before);
  expect(entriesOf(await admin.get(accountPath('late-1')))).toEqual([]);
  await recovers();
  await waitUntilServed(admin, [...namespaces, 'late-1', 'late-2']);
});

test('a right that is missing in one namespace only by a quota is that namespace’s matter', async () => {
  await newNamespace('full');
  await admin.waitFor(secretPath('full'));
  await newNamespace('full-2');
  await admin.waitFor(accountPath('full-2'), (account) => entriesOf(account).length > 0);
  await admin.delete(secretPath('full-2'));
  await admin.create({
    ...{ apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: 'none', namespace: 'full-2' } },
    spec: { hard: { 'count/secrets': '0' } },
  });
  await admin.waitFor(secretPath('full-2'), undefined, 5_000).catch(() => undefined);
  await admin.delete(secretPath('full-2'));
  const failed = await waitForCondition(admin, 'Ready', ({ reason }) => reason !== 'Ready');
  expect(failed.reason).toBe('NamespacesFailed');
  expect(failed.message).toMatch(/full-2: .*quota/);
  await newNamespace('late-3');
  await waitUntilServed(admin, ['late-3']);
  await admin.delete('/api/v1/namespaces/full-2/resourcequotas/none');
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True', { timeoutMs: 90_000 });
});

test('without patch on Secrets: nothing is removed, the condition names it, and it recovers', async () => {
  await take(['patch', 'create'], 'secrets');
  const before = await versions(admin);
  await newNamespace('late-4');
  const ready = await waitForCondition(admin, 'Ready', ({ reason }) => reason === 'MissingPermission');
  expect(ready.message).toMatch(/patch secrets/);
  expect(await versions(admin)).toEqual(before);
  await recovers();
  await waitUntilServed(admin, ['late-4']);
});

test('without list and watch of ServiceAccounts: new namespaces get their Secret, nothing is removed, and it recovers', async () => {
  await take(['list', 'watch'], 'serviceaccounts');
  await restartApiServerWatches();
  const ready = await waitForCondition(admin, 'Ready', ({ reason }) => reason === 'MissingPermission');
  expect(ready.message).toMatch(/list serviceaccounts/);
  const before = await footprint(admin);
  await newNamespace('late-5');
  await admin.waitFor(secretPath('late-5'));
  for (const key of before.keys()) expect((await footprint(admin)).has(key)).toBe(true);
  await recovers();
  await waitUntilServed(admin, ['late-5']);
});

test('without list and watch of namespaces: readiness tells after a start, nothing is removed, and it recovers', async () => {
  await take(['list', 'watch'], 'namespaces');
  const before = await versions(admin);
  await operator.stop();
  operator = await startOperator({ cluster, env: ecr.env, waitUntilReady: false });
  const { text } = await eventually('/readyz tells', async () => {
    const answer = await operator.health('readyz');
    return (
      answer.status === 503 && /Namespace/.test(answer.text) && /forbidden|403|may not/i.test(answer.text) && answer
    );
  });
  expect(text).toMatch(/namespaces/);
  expect((await operator.health('healthz')).status).toBe(200);
  expect(await versions(admin)).toEqual(before);
  await giveBack();
  await operator.waitUntilReady(60_000);
  await newNamespace('late-6');
  await waitUntilServed(admin, [...namespaces, 'late-6']);
});

/** A watch that is open is not asked for its right again: only the next one is. */
async function restartApiServerWatches(): Promise<void> {
  await cluster.restartApiServer('SIGKILL');
}
