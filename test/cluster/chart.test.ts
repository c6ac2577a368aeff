import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import { helmBinary } from './binaries.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { Door, ecrHost } from './door.ts';
import { eventually } from './eventually.ts';
import type { KubeApi } from './kubeApi.ts';
import { buildOperatorImage } from './operatorImage.ts';
import { describePods, restrictedPod, untilSucceeded, whyNoRestrictedPods, type Pod } from './podProbe.ts';
import { ServiceNetwork, serviceRangeFlag } from './serviceNetwork.ts';
import { StandInEcr } from './standInEcr.ts';

// The image, built from the Dockerfile, in the pods that the chart makes, on a kubelet: installed, upgraded, uninstalled
// and installed again, in this order. The Deployment is as shipped; the address of the API server is what kube-proxy
// would give it.

const chart = fileURLToPath(new URL('../../charts/ecr-pull-secrets', import.meta.url));
const image = `ghcr.io/ecr-pull-secrets/ecr-pull-secrets:${manifest.version}`;
const namespace = 'operators';
const first = { name: 'first', namespace, image, args: ['--version'] };
const range = 200;

let cluster: Cluster;
let admin: KubeApi;
let network: ServiceNetwork;
let ecr: StandInEcr;
let door: Door;
let app: string;
let helm: string;
let scratch: string;
let notes: string;
let whyNoPods: string | null;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'ecr-chart-'));
  const [archive, base] = [join(scratch, 'image.tar'), join(scratch, 'base.tar')];
  [cluster, helm] = await Promise.all([
    startCluster({ node: true, apiServerFlags: [serviceRangeFlag(range)] }),
    helmBinary(),
    buildOperatorImage({ name: image, archive, base }),
  ]);
  admin = cluster.admin;
  for (const file of [base, archive]) await cluster.node?.importImage(file);
  network = ServiceNetwork.prepare(cluster, range);
  ecr = await StandInEcr.start();
  door = await Door.open({ cluster, judge: (auth) => ecr.stateOf(auth) });
  app = await door.push();
  for (const name of [namespace, 'team']) {
    const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
    await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
    await admin.waitFor(`/api/v1/namespaces/${name}/serviceaccounts/default`);
  }
  await admin.create(restrictedPod(first));
  await network.open();
  whyNoPods = await whyNoRestrictedPods(cluster, 'team', 'localhost/node-base:1');
  if (whyNoPods !== null) console.log(`skipped, as this machine runs no plain pod that is restricted:\n${whyNoPods}`);
}, 900_000);

beforeEach(({ skip }) => {
  skip(whyNoPods !== null, 'this machine runs no plain pod that is restricted: the reason is printed above');
  onTestFailed(async () => console.log(await describePods(admin, namespace)));
});

afterAll(async () => {
  network?.close();
  await cluster?.stop();
  await door?.close();
  await ecr?.close();
  rmSync(scratch, { recursive: true, force: true });
});

/** Runs helm as an admin would. */
async function runHelm(command: string, args: readonly string[], values: object = {}): Promise<string> {
  const file = join(scratch, 'values.json');
  writeFileSync(file, JSON.stringify(values));
  const valuesFlags = command === 'uninstall' ? [] : [chart, '--values', file];
  return cluster.run(helm, [command, 'pull', '--namespace', namespace, '--timeout=120s', ...valuesFlags, ...args]);
}

async function values(): Promise<object> {
  const env = {
    ...ecr.env,
    AWS_ENDPOINT_URL: await network.forward(new URL(ecr.url).port),
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  return { env: Object.entries(env).map(([name, value]) => ({ name, value })), cleanupOnUninstall: true };
}

function operatorPods(): Promise<Pod[]> {
  return admin.list<Pod>(`/api/v1/namespaces/${namespace}/pods`, {
    labelSelector: 'app.kubernetes.io/name=ecr-pull-secrets,app.kubernetes.io/component=operator',
  });
}

const secretIn = (name: string, secret = 'ecr-pull') => `/api/v1/namespaces/${name}/secrets/${secret}`;
const accountIn = (name: string) => `/api/v1/namespaces/${name}/serviceaccounts/default`;
const crdPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusterecrpullsecrets.ecr.pullsecrets.io';
const resourcePath = '/apis/ecr.pullsecrets.io/v1alpha1/clusterecrpullsecrets/default';

test('the image runs with a user of the platform, a read-only root and no capabilities', async () => {
  await untilSucceeded(admin, first);
  expect(await cluster.run('cat', [await logOf('first')])).toContain(manifest.version);
});

async function logOf(name: string): Promise<string> {
  const found = await cluster.run('find', [join(cluster.dir, 'pod-logs'), '-path', `*_${name}_*`, '-name', '*.log']);
  return found.trim().split('\n')[0] ?? '';
}

test('helm install waits for two ready pods in a restricted namespace, with no resource and no identity yet', async () => {
  notes = await runHelm('install', ['--wait']);
  const pods = await operatorPods();
  expect(pods).toHaveLength(2);
  for (const { status } of pods) {
    expect(status.conditions).toContainEqual(expect.objectContaining({ type: 'Ready', status: 'True' }));
    expect(status.containerStatuses?.[0]?.restartCount).toBe(0);
  }
});

test('the commands of its notes can be copied', async () => {
  const commands = notes
    .split('\n')
    .filter((line) => line.startsWith('    '))
    .map((line) => line.slice(4))
    .join('\n');
  expect(commands).toContain('kubectl apply');
  const script = commands
    .split('\n')
    .filter((line) => !line.startsWith('helm uninstall')) // comes below
    .join('\n')
    .replaceAll(/123456789012\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/g, ecrHost);
  // The pods know the stand-in only with the values of the next test: until then the resource is not ready.
  const withoutWait = script.replace(/kubectl wait .*/, '').replace(/kubectl .* logs .*/, '');
  const output = await cluster.run('bash', [
    '-euc',
    `export AWS_ACCESS_KEY_ID=AKIATEST AWS_SECRET_ACCESS_KEY=x\n${withoutWait}`,
  ]);
  expect(output).toContain('clusterecrpullsecret.ecr.pullsecrets.io/default created');
});

test('helm upgrade gives it its environment, with one pod ready all the time, and it does the job', async () => {
  const upgrade = runHelm('upgrade', ['--wait'], await values());
  let isDone = false;
  void upgrade.finally(() => (isDone = true)).catch(() => {});
  const counts: number[] = [];
  await eventually(
    'the upgrade is done',
    async () => {
      const deployment = await admin.get<{ status: { availableReplicas?: number } }>(
        `/apis/apps/v1/namespaces/${namespace}/deployments/ecr-pull-secrets`,
      );
      counts.push(deployment?.status.availableReplicas ?? 0);
      return isDone;
    },
    130_000,
  );
  await upgrade;
  expect(Math.min(...counts)).toBeGreaterThanOrEqual(1);
  await cluster.kubectl('wait', '--for=condition=Ready', 'clusterecrpullsecret/default', '--timeout=60s');
  await admin.waitFor(accountIn('team'), (account) => JSON.stringify(account).includes('"ecr-pull"'));
  await admin.create(restrictedPod({ name: 'app', namespace: 'team', image: app }));
  await admin.waitFor<Pod>('/api/v1/namespaces/team/pods/app', ({ status }) => status.phase === 'Running', 60_000);
  expect(door.count('live')).toBeGreaterThan(0);
});

test('a new name for the Secret comes first, then the old one goes', async () => {
  await runHelm('upgrade', ['--wait'], { ...(await values()), secretName: 'pull', formerSecretNames: ['ecr-pull'] });
  await admin.waitFor(secretIn('team', 'pull'), () => true, 60_000);
  await admin.waitForAbsence(secretIn('team'), 60_000);
  const entries = async () => (await admin.get<{ imagePullSecrets?: object[] }>(accountIn('team')))?.imagePullSecrets;
  expect(await entries()).toEqual([{ name: 'pull' }]);
});

test('helm uninstall takes everything of ours out of the cluster; the CRD, its resources and foreign things stay', async () => {
  await admin.patch(accountIn('team'), { imagePullSecrets: [{ name: 'pull' }, { name: 'own' }] });
  await runHelm('uninstall', ['--wait']);
  expect(await admin.get(secretIn('team', 'pull'))).toBeNull();
  expect(await admin.get(secretIn(namespace, 'ecr-pull-tokens'))).toBeNull();
  expect(await admin.get(accountIn('team'))).toMatchObject({ imagePullSecrets: [{ name: 'own' }] });
  expect(await admin.get(crdPath)).not.toBeNull();
  expect(await admin.get(resourcePath)).not.toBeNull();
  const left = await cluster.kubectl(
    ...['get', 'clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings'],
    ...['--selector=app.kubernetes.io/name=ecr-pull-secrets', '--output=name'],
  );
  expect(left).toBe('');
  expect(await admin.get(`/api/v1/namespaces/${namespace}/serviceaccounts/ecr-pull-secrets-cleanup`)).toBeNull();
  const jobs = await admin.list(`/apis/batch/v1/namespaces/${namespace}/jobs`);
  expect(jobs).toEqual([]);
});

test('installed again, it takes the CRD and the resources that stayed', async () => {
  await runHelm('install', ['--wait'], await values());
  const { type } = await admin.waitFor(secretIn('team'), () => true, 60_000);
  expect(type).toBe('kubernetes.io/dockerconfigjson');
});
