import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startCluster, type Cluster } from './cluster.ts';
import { Door } from './door.ts';
import { eventually } from './eventually.ts';
import type { KubeApi, KubeObject } from './kubeApi.ts';
import { installDeploy, startOperator, type Operator } from './operator.ts';
import { scaled } from './scaled.ts';
import { askForRefresh, createNamespaces, resource, secretPath, authIn, waitUntilServed } from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// What it is all for: pods on a kubelet pull true ECR names, and go on pulling while tokens come and go.

const lifeMs = 30_000; // refreshed after 13.5 to 15 s: half of it is left when the next is there

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let door: Door;
let image: string;
let namespaces: string[];
let operator: Operator;

beforeAll(async () => {
  cluster = await startCluster({ node: true });
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  door = await Door.open({ cluster, judge: (auth) => ecr.stateOf(auth) });
  image = await door.push();
  await installDeploy(cluster);
  namespaces = await createNamespaces(admin, 2);
});
afterAll(async () => {
  await cluster?.stop();
  await door?.close();
  await ecr?.close();
});

interface Pod extends KubeObject {
  status: { phase: string; containerStatuses?: { state: { waiting?: { reason: string } } }[] };
}

const waitingReason = (pod: Pod) => pod.status.containerStatuses?.[0]?.state.waiting?.reason;
const isRunning = (pod: Pod) => pod.status.phase === 'Running';
const isBackingOff = (pod: Pod) => waitingReason(pod) === 'ImagePullBackOff';

async function createPod(namespace: string, name: string, more: object = {}): Promise<string> {
  const containers = [{ name: 'app', image, imagePullPolicy: 'Always' }];
  const spec = { containers, terminationGracePeriodSeconds: 0, ...more };
  await admin.create({ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace }, spec });
  return `/api/v1/namespaces/${namespace}/pods/${name}`;
}

/** What the kubelet says of pulls that failed, since it began to count. */
async function failedPulls(): Promise<string[]> {
  const events = await admin.list<KubeObject & { message: string; involvedObject: { name: string } }>(
    '/api/v1/events',
    {
      fieldSelector: 'reason=Failed',
    },
  );
  return events.map(({ involvedObject, message }) => `${involvedObject.name}: ${message}`);
}

/** At once; ten seconds after the last call at the earliest. */
async function refresh(): Promise<void> {
  const calls = ecr.calls.length;
  await askForRefresh(admin);
  await eventually('ECR is asked', () => ecr.calls.length > calls);
}

test('pods cannot pull before there is a resource, and run once there is one', async () => {
  operator = await startOperator({ cluster, env: ecr.env });
  const [a = '', b = ''] = namespaces;
  const plain = await createPod(a, 'before');
  // The ServiceAccount's entries are copied into a pod when it is made: only one that names the Secret itself can recover.
  const naming = await createPod(b, 'before', { imagePullSecrets: [{ name: 'ecr-pull' }] });
  await admin.waitFor(plain, isBackingOff, 90_000);
  await admin.waitFor(naming, isBackingOff, 90_000);
  expect(door.count('none')).toBeGreaterThan(0);
  expect(door.visits.filter(({ shown }) => shown !== 'none')).toEqual([]);

  await admin.create(resource('production', { verification: { mode: 'Disabled' } }));
  await waitUntilServed(admin, namespaces);
  await admin.waitFor(await createPod(a, 'after'), isRunning, 60_000);
  await admin.waitFor(naming, isRunning, 90_000); // the kubelet's own back-off
  expect(ecr.calls).toHaveLength(1);
  expect(door.count('live')).toBeGreaterThan(0);
});

test('tokens of 30 s: a new pod every 5 s, no pull fails, and no dead token is shown', async () => {
  for (const name of ['before', 'after']) await admin.delete(`/api/v1/namespaces/${namespaces[0]}/pods/${name}`);
  ecr.lifeMs = lifeMs;
  const asked = Date.now();
  await refresh();
  for (const name of namespaces) {
    const isShort = (secret: KubeObject) => ecr.issuedAtOf(authIn(secret) ?? '') >= asked;
    await admin.waitFor(secretPath(name), isShort);
  }
  const failedBefore = new Set(await failedPulls());
  const from = Date.now();
  const calls = ecr.calls.length;
  const periodMs = scaled(180_000, 60_000);
  const starts: Promise<unknown>[] = [];
  for (let i = 0; Date.now() - from < periodMs; i++) {
    const pod = await createPod(namespaces[i % 2] ?? '', `app-${i}`);
    // 60 s for a loaded machine: that no pull fails is asked of the door and the events, not of the time.
    starts.push(admin.waitFor(pod, isRunning, 60_000).then(() => admin.delete(pod)));
    await sleep(5_000);
  }
  await Promise.all(starts);

  expect((await failedPulls()).filter((told) => !failedBefore.has(told))).toEqual([]);
  const dead = door.visits.filter(({ shown, time }) => time >= from && (shown === 'expired' || shown === 'unknown'));
  expect(dead).toEqual([]);
  expect(door.count('live', from)).toBeGreaterThanOrEqual(starts.length);
  // More than two lives have gone by, so a token that was not refreshed would have been shown dead.
  const refreshes = ecr.calls.length - calls;
  expect(refreshes).toBeGreaterThanOrEqual(Math.floor((Date.now() - from) / lifeMs));
  expect(refreshes).toBeLessThanOrEqual(Math.ceil((Date.now() - from) / 10_000));
  expect(operator.logs(({ level }) => level === 'error')).toEqual([]);
});

test('the same tokens without the operator are refused at the door: the door can tell', async () => {
  await operator.kill();
  await sleep(lifeMs + 1_000);
  const pod = await createPod(namespaces[0] ?? '', 'late');
  await admin.waitFor(pod, isBackingOff, 90_000);
  expect(door.count('expired')).toBeGreaterThan(0);
});
