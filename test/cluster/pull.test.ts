import { afterAll, beforeAll, expect, test } from 'vitest';
import { startCluster, type Cluster } from './cluster.ts';
import { Door, ecrHost } from './door.ts';
import type { KubeObject } from './kubeApi.ts';
import { StandInEcr } from './standInEcr.ts';

// Without the operator: that a node pulls true ECR names by pull secrets, and that the door knows dead tokens.

let cluster: Cluster;
let ecr: StandInEcr;
let door: Door;
let image: string;

beforeAll(async () => {
  cluster = await startCluster({ node: true });
  ecr = await StandInEcr.start();
  door = await Door.open({ cluster, judge: (auth) => ecr.stateOf(auth) });
  image = await door.push();
});
afterAll(async () => {
  await cluster?.stop();
  await door?.close();
  await ecr?.close();
});

interface Pod extends KubeObject {
  status: { phase: string; containerStatuses?: { state: { waiting?: { reason: string; message?: string } } }[] };
}

const waitingReason = (pod: Pod) => pod.status.containerStatuses?.[0]?.state.waiting?.reason;

async function namespaceWithSecret(name: string, auth: string | null): Promise<string> {
  const { admin } = cluster;
  await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  await admin.waitFor(`/api/v1/namespaces/${name}/serviceaccounts/default`);
  if (auth !== null) await writeSecret(name, auth);
  return name;
}

async function writeSecret(namespace: string, auth: string): Promise<void> {
  const config = Buffer.from(JSON.stringify({ auths: { [ecrHost]: { auth } } })).toString('base64');
  await cluster.admin.apply({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'ecr-pull', namespace },
    type: 'kubernetes.io/dockerconfigjson',
    data: { '.dockerconfigjson': config },
  });
  const account = `/api/v1/namespaces/${namespace}/serviceaccounts/default`;
  await cluster.admin.patch(account, { imagePullSecrets: [{ name: 'ecr-pull' }] });
}

async function createPod(namespace: string, name = 'app'): Promise<string> {
  const spec = { containers: [{ name: 'app', image, imagePullPolicy: 'Always' }], terminationGracePeriodSeconds: 0 };
  await cluster.admin.create({ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace }, spec });
  return `/api/v1/namespaces/${namespace}/pods/${name}`;
}

test('a pod without a pull secret stays in ImagePullBackOff', async () => {
  const pod = await createPod(await namespaceWithSecret('without', null));
  await cluster.admin.waitFor<Pod>(pod, (pod) => waitingReason(pod) === 'ImagePullBackOff', 60_000);
  expect(door.count('live')).toBe(0);
  expect(door.count('none')).toBeGreaterThan(0);
});

test('a pod with a live token in our Secret is running within seconds', async () => {
  const pod = await createPod(await namespaceWithSecret('with', ecr.issue().auth));
  await cluster.admin.waitFor<Pod>(pod, (pod) => pod.status.phase === 'Running', 20_000);
  expect(door.count('live')).toBeGreaterThan(0);
});

test('an expired token is refused at the door, also where the image is on the node already', async () => {
  const pod = await createPod(await namespaceWithSecret('expired', ecr.issue(-1).auth));
  const refused = await cluster.admin.waitFor<Pod>(pod, (pod) => waitingReason(pod) === 'ErrImagePull', 60_000);
  expect(refused.status.containerStatuses?.[0]?.state.waiting?.message).toContain('403');
  expect(door.visits.filter((visit) => visit.shown === 'expired').every((visit) => visit.status === 403)).toBe(true);
  await writeSecret('expired', ecr.issue().auth);
  const next = await createPod('expired', 'next');
  await cluster.admin.waitFor<Pod>(next, (pod) => pod.status.phase === 'Running', 20_000);
});
