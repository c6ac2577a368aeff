import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tokenStoreName } from '../../src/api/groupVersion.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi } from './kubeApi.ts';
import { installDeploy, operatorNamespace, startOperator } from './operator.ts';
import {
  accountPath,
  createNamespaces,
  entriesOf,
  footprint,
  resource,
  resourcePath,
  secretPath,
  versions,
  waitUntilServed,
} from './served.ts';
import { StandInEcr } from './standInEcr.ts';

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let namespaces: string[];

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  await installDeploy(cluster);
  namespaces = await createNamespaces(admin, 20);
  await admin.create(resource('production', { serviceAccounts: { names: ['*'], exclude: ['by-hand'] } }));
});
afterAll(async () => {
  await cluster?.stop();
  await ecr?.close();
});

interface Ended {
  code: number | null;
  output: string;
}

/** `ecr-pull-secrets cleanup` as the admin runs it. */
function cleanup(...args: string[]): Promise<Ended> {
  const flags = [`--kubeconfig=${cluster.kubeconfig}`, `--namespace=${operatorNamespace}`, ...args];
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, 'cleanup', ...flags]);
  let output = '';
  child.stdout.on('data', (bytes: Buffer) => (output += bytes.toString('utf8')));
  child.stderr.on('data', (bytes: Buffer) => (output += bytes.toString('utf8')));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
}

const startServing = async () => {
  const operator = await startOperator({ cluster, env: ecr.env });
  await waitUntilServed(admin, namespaces);
  return operator;
};

test('a wrong flag is told in one line, with exit code 2, and nothing is done', async () => {
  const mark = cluster.auditMark();
  const { code, output } = await cleanup('--timeout=soon');
  expect([code, output]).toEqual([2, expect.stringMatching(/^ecr-pull-secrets: .*--timeout.*\n$/)]);
  expect((await cleanup('--removal-delay=1s')).code).toBe(2);
  expect((await cleanup('--kubeconfig=/nowhere/at-all')).code).toBe(2);
  expect(cluster.auditEvents({ user: 'admin', resource: 'deployments/scale', since: mark })).toEqual([]);
});

test('a live operator outside the Deployment: exit code 1, its name is told, and nothing is removed', async () => {
  const operator = await startServing();
  const before = await versions(admin);
  const { code, output } = await cleanup('--timeout=8s');
  expect([code, output]).toEqual([1, expect.stringMatching(/held by a live operator .*nothing was removed/)]);
  expect(await versions(admin)).toEqual(before);
  expect(await operator.metric('ecr_pull_secrets_leader')).toBe(1);
  expect(await operator.stop()).toBe(0);
});

test('everything of ours goes, foreign entries and Secrets and the custom resources stay', async () => {
  await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'foreign' } });
  await admin.waitFor(accountPath('foreign'));
  const foreign = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'ecr-pull', namespace: 'foreign' } };
  await admin.create({ ...foreign, type: 'Opaque' });
  const byHand = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'by-hand', namespace: 'team-1' } };
  await admin.create({ ...byHand, imagePullSecrets: [{ name: 'ecr-pull' }, { name: 'own' }] });
  await admin.patch(accountPath('team-0'), { imagePullSecrets: [{ name: 'own' }, { name: 'ecr-pull' }] });

  const { code, output } = await cleanup('--timeout=60s');
  expect([code, output]).toEqual([0, expect.stringContaining('everything of ours is gone')]);
  expect([...(await footprint(admin)).keys()]).toEqual(['foreign', 'team-1/by-hand']);
  expect(entriesOf(await admin.get(accountPath('team-0')))).toEqual(['own']);
  expect(entriesOf(await admin.get(accountPath('team-1', 'by-hand')))).toEqual(['ecr-pull', 'own']);
  expect(await admin.get(secretPath(operatorNamespace, tokenStoreName))).toBeNull();
  expect(await admin.get(resourcePath())).not.toBeNull();
});

test('a second time, there is nothing to do', async () => {
  const mark = cluster.auditMark();
  expect((await cleanup()).code).toBe(0);
  const writes = cluster.auditEvents({ user: 'admin', verb: ['patch', 'delete'], since: mark });
  expect(writes.filter(({ objectRef }) => objectRef?.resource === 'serviceaccounts')).toEqual([]);
});

test('the operator installed again serves again', async () => {
  const operator = await startServing();
  expect(await operator.stop()).toBe(0);
});

test('while it removes, an operator that starts does not write anything back', async () => {
  const slow = cleanup('--timeout=60s');
  await eventually('it has begun', async () => (await footprint(admin)).size < 2 * namespaces.length, 20_000);
  const operator = await startOperator({ cluster, env: ecr.env });
  const mark = cluster.auditMark();
  expect((await slow).code).toBe(0);
  const left = [...(await footprint(admin)).keys()];
  const writes = cluster.auditEvents({ verb: 'patch', resource: 'secrets', name: 'ecr-pull', since: mark });
  // Once cleanup is done, the lease is free and an operator that is told to run does its job.
  expect(left).toEqual(writes.length > 0 ? expect.any(Array) : ['foreign', 'team-1/by-hand']);
  await waitUntilServed(admin, namespaces);
  expect(await operator.stop()).toBe(0);
});

test('what cannot be removed in time is told, with exit code 1; the rest is gone', async () => {
  await admin.patch(secretPath('team-3'), { metadata: { finalizers: ['example.org/keep'] } });
  const { code, output } = await cleanup('--timeout=6s');
  expect([code, output]).toEqual([1, expect.stringContaining('team-3')]);
  expect([...(await footprint(admin)).keys()]).toEqual(['foreign', 'team-1/by-hand', 'team-3']);
  await admin.patch(secretPath('team-3'), { metadata: { finalizers: null } });
  await admin.waitForAbsence(secretPath('team-3'));
});
