import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import { collectionOf, type KubeApi, type KubeObject } from './kubeApi.ts';
import { installDeploy, operatorAccount, operatorNamespace, startOperator } from './operator.ts';
import { restrictedPod } from './podProbe.ts';
import { conditionOf, createNamespace, resource, resourcePath, secretPath, type PullSecretResource } from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// Somebody has the token of the operator's ServiceAccount: what he can read of a whole cluster, and what he gains where
// the policy is missing.

let cluster: Cluster;
let admin: KubeApi;
let thief: KubeApi;

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  await installDeploy(cluster);
  thief = await cluster.clientFor(operatorAccount);
  await createNamespace(admin, 'team');
  for (const namespace of ['team', 'kube-system', operatorNamespace]) {
    for (const name of ['ecr-pull', 'ecr-pull-tokens', 'aws-credentials', 'other']) {
      await admin.create({ ...secret, metadata: { name, namespace } });
    }
    await admin.create({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'some', namespace } });
    await admin.create(restrictedPod({ name: 'some', namespace, image: 'example.com/app' }));
    await admin.create({ ...lease, metadata: { name: 'some', namespace } });
    await admin.create({ ...lease, metadata: { name: 'ecr-pull-secrets', namespace } });
  }
  await admin.create(resource('production', { suspend: true }));
});
afterAll(() => cluster?.stop());

const secret = { apiVersion: 'v1', kind: 'Secret', data: { canary: btoa('canary') } };
const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' };

interface ServedResource {
  readonly base: string; // such as /apis/apps/v1
  readonly name: string;
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
}

/** Every resource that the API server serves, in each group's preferred version, subresources too. */
async function discover(): Promise<ServedResource[]> {
  interface Groups {
    groups: { preferredVersion: { groupVersion: string } }[];
  }
  const { groups } = (await admin.get<Groups>('/apis')) ?? { groups: [] };
  const bases = ['/api/v1', ...groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)];
  const lists = await Promise.all(
    bases.map(async (base) => {
      const list = await admin.get<{ resources: Omit<ServedResource, 'base'>[] }>(base);
      return (list?.resources ?? []).map((one) => ({ ...one, base }));
    }),
  );
  return lists.flat();
}

/** 429: the storage of a CRD that is seconds old is still made. */
async function isAllowed(path: string): Promise<boolean> {
  const answer = await eventually(`${path} is answered`, async () => {
    const found = await thief.request('GET', path);
    return found.status !== 429 && found;
  });
  expect([200, 403, 404, 405]).toContain(answer.status); // 405: there is no such verb
  return answer.status === 200;
}

/** What `thief` gets of one resource: lists as a whole, lists of one name, single objects; by namespace. */
async function readable({ base, name, namespaced }: ServedResource): Promise<string[]> {
  const group = base.startsWith('/api/') ? name : `${name}.${base.split('/')[2]}`;
  const found: string[] = [];
  if (await isAllowed(`${base}/${name}`)) found.push(`list ${group}`);
  const objects = await admin.list(`${base}/${name}`);
  const namespaces = namespaced ? ['team', 'kube-system', operatorNamespace] : [];
  for (const namespace of namespaces) {
    if (found.length === 0 && (await isAllowed(`${base}/namespaces/${namespace}/${name}`))) {
      found.push(`list ${group} in ${namespace}`);
    }
  }
  const isListed = found.length > 0;
  for (const { metadata } of objects) {
    const { namespace } = metadata;
    const collection = namespaced ? `${base}/namespaces/${namespace}/${name}` : `${base}/${name}`;
    const where = namespaced ? ` in ${namespace}` : '';
    if (await isAllowed(`${collection}/${metadata.name}`)) found.push(`get ${group} ${metadata.name}${where}`);
    const ofName = `fieldSelector=metadata.name%3D${metadata.name}`;
    if (!isListed && (await isAllowed(`${collection}?${ofName}`))) found.push(`list ${group} ${metadata.name}${where}`);
    if (!isListed && namespaced && (await isAllowed(`${base}/${name}?${ofName}`)))
      found.push(`list ${group} ${metadata.name} everywhere`);
  }
  return found;
}

test('can read this of all that the API server serves, and nothing else', async () => {
  const served = await discover();
  const lists = served.filter(({ name, verbs }) => !name.includes('/') && verbs.includes('list'));
  expect(lists.length).toBeGreaterThan(40);
  const found = new Set<string>();
  for (const one of lists) for (const line of await readable(one)) found.add(line);
  // Each ServiceAccount can be read: they are listed, too.
  const lines = [...found].filter((line) => !line.startsWith('get serviceaccounts '));
  expect(lines.sort()).toEqual([
    'get customresourcedefinitions.apiextensions.k8s.io clusterecrpullsecrets.ecr.pullsecrets.io',
    'get leases.coordination.k8s.io ecr-pull-secrets in ecr-pull-secrets',
    'get secrets ecr-pull in ecr-pull-secrets',
    'get secrets ecr-pull in kube-system',
    'get secrets ecr-pull in team',
    'get secrets ecr-pull-tokens in ecr-pull-secrets',
    'list clusterecrpullsecrets.ecr.pullsecrets.io',
    'list customresourcedefinitions.apiextensions.k8s.io clusterecrpullsecrets.ecr.pullsecrets.io',
    'list namespaces',
    'list secrets aws-credentials in ecr-pull-secrets',
    'list secrets ecr-pull everywhere',
    'list secrets ecr-pull in ecr-pull-secrets',
    'list secrets ecr-pull in kube-system',
    'list secrets ecr-pull in team',
    'list serviceaccounts',
  ]);
});

test('can read no subresource: no log, no scale, no status of anything', async () => {
  const served = await discover();
  const subresources = served.filter(({ name, verbs }) => name.includes('/') && verbs.includes('get'));
  expect(subresources.length).toBeGreaterThan(20);
  const read: string[] = [];
  const tried = new Set<string>(); // those of which there is an object
  for (const { base, name, namespaced } of subresources) {
    const [plural = '', ...rest] = name.split('/');
    const collection = served.some((one) => one.base === base && one.name === plural && one.verbs.includes('list'));
    const objects = collection ? await admin.list(`${base}/${plural}`) : [];
    for (const { metadata } of objects.slice(0, 5)) {
      const at = namespaced ? `${base}/namespaces/${metadata.namespace}/${plural}` : `${base}/${plural}`;
      const { status } = await thief.request('GET', `${at}/${metadata.name}/${rest.join('/')}`);
      tried.add(name);
      if (status !== 403) read.push(`${name} ${metadata.name}: ${status}`);
    }
  }
  expect(read).toEqual([]);
  expect([...tried]).toEqual(expect.arrayContaining(['pods/log', 'namespaces/status', 'clusterecrpullsecrets/status']));
  expect(tried.size).toBeGreaterThan(10);
});

test.each(['/metrics', '/logs/', '/debug/pprof/', '/debug/flags/v', '/configz', '/statusz', '/flagz'])(
  'cannot read %s',
  async (path) => {
    expect((await thief.request('GET', path)).status).toBe(403);
  },
);

describe('the takeover by a Secret that holds a token of another ServiceAccount', () => {
  const policies = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/ecr-pull-secrets';
  const steal = (o: { namespace: string; name: string; dryRun?: boolean }) =>
    thief.request<KubeObject & { data?: { token?: string } }>('PATCH', secretPath(o.namespace, o.name), {
      query: { fieldManager: 'ecr-pull-secrets', force: 'true', ...(o.dryRun && { dryRun: 'All' }) },
      contentType: 'application/apply-patch+yaml',
      body: {
        ...{ apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/service-account-token' },
        metadata: {
          ...{ name: o.name, namespace: o.namespace },
          annotations: { 'kubernetes.io/service-account.name': 'default' },
        },
      },
    });
  const places = [
    ['kube-system', 'ecr-pull'],
    ['team', 'ecr-pull'],
    [operatorNamespace, 'ecr-pull'],
    [operatorNamespace, 'ecr-pull-tokens'],
  ].map(([namespace = '', name = '']) => ({ namespace, name }));

  beforeAll(async () => {
    for (const { namespace, name } of places) await admin.delete(secretPath(namespace, name));
    await eventually('the policy is in force', async () => {
      const { status } = await steal({ namespace: 'team', name: 'ecr-pull', dryRun: true });
      return status === 403;
    });
  });

  test('is refused by type under each of its names, and by name under every other', async () => {
    const refusal = async (place: { namespace: string; name: string }) => {
      const { status, body } = await steal(place);
      return { ...place, status, message: (body as { message?: string }).message };
    };
    // The policy's word, and RBAC's, which knows no type.
    const byType = expect.stringMatching(/ValidatingAdmissionPolicy 'ecr-pull-secrets' .* of another type/) as string;
    const byName = expect.stringMatching(/^secrets "\S+" is forbidden: User \S+ cannot patch resource/) as string;
    for (const place of places) expect(await refusal(place)).toEqual({ ...place, status: 403, message: byType });
    for (const name of ['other', 'default-token', 'aws-credentials', 'ecr-pull-2']) {
      for (const namespace of ['kube-system', operatorNamespace]) {
        expect(await refusal({ namespace, name })).toEqual({ namespace, name, status: 403, message: byName });
      }
    }
    for (const { namespace, name } of places) expect(await admin.get(secretPath(namespace, name))).toBeNull();
  });

  test('works where the policy is missing, and the operator tells so at its start and until it is there', async () => {
    const binding = await admin.get(policies);
    await admin.delete(policies);
    await eventually('nothing refuses it', async () => {
      const { status } = await steal({ namespace: 'kube-system', name: 'ecr-pull', dryRun: true });
      return status === 201;
    });
    expect((await steal({ namespace: 'kube-system', name: 'ecr-pull' })).status).toBe(201);
    const token = await eventually('the token is there for the taking', async () => {
      const { body } = await thief.request<{ data?: { token?: string } }>('GET', secretPath('kube-system', 'ecr-pull'));
      return body.data?.token;
    });
    const [, claims = ''] = Buffer.from(token, 'base64').toString().split('.');
    expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toMatchObject({
      sub: 'system:serviceaccount:kube-system:default',
    });
    await admin.delete(secretPath('kube-system', 'ecr-pull'));

    await admin.delete(`/apis/coordination.k8s.io/v1/namespaces/${operatorNamespace}/leases/ecr-pull-secrets`);
    const ecr = await StandInEcr.start();
    const operator = await startOperator({ cluster, env: ecr.env });
    const isTold = async (): Promise<boolean> => {
      const found = await admin.get<PullSecretResource>(resourcePath());
      return conditionOf(found, 'Unguarded')?.status === 'True';
    };
    await eventually('it is told in the condition', isTold, 60_000);
    expect(await operator.metric('ecr_pull_secrets_policy_present')).toBe(0);
    expect(operator.output()).toMatch(/"level":"warn".*Policy ecr-pull-secrets is not in force/);

    const { apiVersion, kind, metadata, ...rest } = binding as KubeObject;
    await admin.create({ apiVersion, kind, metadata: { name: metadata.name }, ...rest } as KubeObject);
    expect(collectionOf(binding as KubeObject)).toBe(policies.replace('/ecr-pull-secrets', ''));
    await eventually('it is told no more', async () => !(await isTold()), 60_000);
    expect(await operator.metric('ecr_pull_secrets_policy_present')).toBe(1);
    expect((await steal({ namespace: 'kube-system', name: 'ecr-pull' })).status).toBe(403);
    await operator.stop();
    await ecr.close();
  });
});
