import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { crdName } from '../../src/api/groupVersion.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi } from './kubeApi.ts';
import { installDeploy, startOperator, type Operator } from './operator.ts';
import { scaled } from './scaled.ts';
import {
  accountPath,
  createNamespaces,
  entriesOf,
  footprint,
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

// Deleting a CRD deletes every resource within milliseconds: nobody means the pull secrets of the whole cluster by it.

const crdPath = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${crdName}`;
/** Longer than any wait after which something might be removed: the delay of 5 s, and the next look 5 s later. */
const longEnoughMs = 11_500;
const foreignSecret = {
  ...{ apiVersion: 'v1', kind: 'Secret', type: 'Opaque', data: { a: 'Yg==' } },
  metadata: { name: 'ecr-pull', namespace: 'foreign-0' },
};

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let operator: Operator;
let crdFile: string;
let namespaces: string[];

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  await installDeploy(cluster);
  crdFile = join(cluster.dir, 'crd.yaml');
  writeFileSync(crdFile, crdOf(readFileSync(new URL('../../deploy/install.yaml', import.meta.url), 'utf8')));
  namespaces = await createNamespaces(admin, 12);
  await createNamespaces(admin, 1, 'foreign');
  await admin.create(foreignSecret);
});
afterAll(async () => {
  await cluster?.stop();
  await ecr?.close();
});

function crdOf(install: string): string {
  const crd = install.split(/^---$/m).find((document) => /^kind: CustomResourceDefinition$/m.test(document));
  if (crd === undefined) throw new Error('deploy/install.yaml has no CRD');
  return crd;
}

const start = (waitUntilReady = true) => startOperator({ cluster, env: ecr.env, waitUntilReady });
const restart = async (waitUntilReady = true) => {
  await operator.kill();
  operator = await start(waitUntilReady);
};

async function deleteCrd(): Promise<void> {
  await admin.delete(crdPath);
  await admin.waitForAbsence(crdPath);
}

async function installCrd(): Promise<void> {
  await cluster.kubectl('apply', '--server-side', '-f', crdFile);
  await cluster.kubectl('wait', '--for=condition=Established', `crd/${crdName}`);
}

/** The time in which a careless operator would remove everything, and half of it again. */
async function passes(): Promise<void> {
  await sleep(longEnoughMs);
}

interface Before {
  mark: number;
  there: Record<string, string>;
  calls: number;
}

async function before(): Promise<Before> {
  await waitUntilServed(admin, namespaces);
  return { mark: cluster.auditMark(), there: await versions(admin), calls: ecr.calls.length };
}

/** Nothing of ours was touched since, whatever the way. */
async function expectUntouched({ mark, there }: Before): Promise<void> {
  expect(told(servingWrites(cluster, mark))).toEqual([]);
  expect(await versions(admin)).toEqual(there);
}

async function resourceIsBack(then: Before): Promise<void> {
  await admin.create(resource());
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
  await sleep(1_000);
  await expectUntouched(then);
  expect(ecr.calls.length).toBe(then.calls);
}

test('an operator that starts before there is a CRD lives, tells so, and serves within 30 s of its arrival', async () => {
  await deleteCrd();
  operator = await start(false);
  await eventually('/readyz tells', async () => {
    const { status, text } = await operator.health('readyz');
    return status === 503 && /ClusterECRPullSecret/.test(text);
  });
  await sleep(scaled(60_000));
  expect((await operator.health('healthz')).status).toBe(200);
  await installCrd();
  await admin.create(resource());
  const from = performance.now();
  await waitUntilServed(admin, namespaces, 45_000);
  expect(performance.now() - from).toBeLessThan(30_000);
  await operator.waitUntilReady();
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
});

test('a resource that is deleted and made again within 3 s: nothing is removed, nothing is written', async () => {
  const then = await before();
  await admin.delete(resourcePath());
  await sleep(2_500);
  await resourceIsBack(then);
  await sleep(7_000);
  await expectUntouched(then);
});

test('a CRD deleted by mistake, its resource back after it: nothing is removed, nothing is written', async () => {
  const then = await before();
  await deleteCrd();
  await passes();
  await expectUntouched(then);
  expect((await operator.health('healthz')).status).toBe(200);
  await installCrd();
  await sleep(scaled(60_000));
  await expectUntouched(then);
  await resourceIsBack(then);
});

test('a CRD replaced by force, its resource back minutes later: nothing is removed, nothing is written', async () => {
  const then = await before();
  await cluster.kubectl('replace', '--force', '-f', crdFile);
  await sleep(scaled(180_000, longEnoughMs));
  await expectUntouched(then);
  await resourceIsBack(then);
});

test('the same with a restart while the CRD is absent', async () => {
  const then = await before();
  await deleteCrd();
  await restart(false);
  await sleep(5_000);
  await installCrd();
  await operator.waitUntilReady();
  await passes();
  await expectUntouched(then);
  await resourceIsBack(then);
});

test('the same with a restart between the CRD replaced by force and the return of its resource', async () => {
  const then = await before();
  await cluster.kubectl('replace', '--force', '-f', crdFile);
  await restart();
  await passes();
  await expectUntouched(then);
  await resourceIsBack(then);
});

test('a second replacement while the first is not yet mended, with a restart between them', async () => {
  const then = await before();
  await deleteCrd();
  await restart(false);
  await installCrd();
  await operator.waitUntilReady();
  await sleep(2_000);
  await cluster.kubectl('replace', '--force', '-f', crdFile);
  await passes();
  await expectUntouched(then);
  await resourceIsBack(then);
});

test('a resource deleted for good: all of ours is gone within 20 s, foreign entries and Secrets stay', async () => {
  await admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'by-hand', namespace: 'team-1' } });
  await admin.patch(accountPath('team-1', 'by-hand'), { imagePullSecrets: [{ name: 'ecr-pull' }] });
  await admin.patch(accountPath('team-0'), {
    imagePullSecrets: [{ name: 'own' }, { name: 'ecr-pull' }, { name: 'other' }],
  });
  await before();

  await admin.delete(resourcePath());
  const from = performance.now();
  const left = await eventually('what is ours is gone', async () => {
    const there = await footprint(admin);
    return there.size <= 2 && [...there.keys()];
  });
  expect(performance.now() - from).toBeLessThan(20_000);
  // A Secret of our name that we did not make, and an entry that a person put where nothing was served.
  expect(left).toEqual(['foreign-0', 'team-1/by-hand']);
  expect(entriesOf(await admin.get(accountPath('team-0')))).toEqual(['own', 'other']);
  expect((await admin.get(secretPath('foreign-0')))?.['data']).toEqual(foreignSecret.data);
});

test('SIGTERM ends it with 0', async () => {
  expect(await operator.stop()).toBe(0);
});
