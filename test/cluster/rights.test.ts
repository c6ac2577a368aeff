import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rightsOf, rightsTables, sorted, type Right } from '../chart/rightsTable.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { Answer, KubeApi, KubeObject } from './kubeApi.ts';
import { installDeploy, operatorAccount, operatorNamespace } from './operator.ts';

// deploy/ as it is, and requests with the token of the operator's own ServiceAccount.

let cluster: Cluster;
let admin: KubeApi;
let us: KubeApi;

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  await installDeploy(cluster);
  us = await cluster.clientFor(operatorAccount);
  // A dry run: until it is in force, the takeover passes.
  await eventually('the policy is in force', async () =>
    refusal(await applySecret('kube-system', tokenSecret, { dryRun: true })).includes('another type'),
  );
  await namespace('team');
});
afterAll(() => cluster?.stop());

interface Status {
  message?: string;
  details?: { causes?: { message?: string }[] };
}

const dockerConfig = (content: object = {}) => Buffer.from(JSON.stringify({ auths: content })).toString('base64');
const pullSecret = {
  type: 'kubernetes.io/dockerconfigjson',
  metadata: { labels: { 'app.kubernetes.io/managed-by': 'ecr-pull-secrets' } },
  data: { '.dockerconfigjson': dockerConfig() },
};
const tokenSecret = {
  type: 'kubernetes.io/service-account-token',
  metadata: { annotations: { 'kubernetes.io/service-account.name': 'default' } },
};

async function namespace(name: string): Promise<void> {
  await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  await admin.waitFor(`/api/v1/namespaces/${name}/serviceaccounts/default`);
}

function secretPath(namespace: string, name = 'ecr-pull'): string {
  return `/api/v1/namespaces/${namespace}/secrets/${name}`;
}

function accountPath(namespace: string, name = 'default'): string {
  return `/api/v1/namespaces/${namespace}/serviceaccounts/${name}`;
}

/** As the operator applies: server-side, its field manager, forced unless told. */
function applySecret(
  namespace: string,
  { metadata = {}, ...rest }: { metadata?: object; [field: string]: unknown },
  { name = 'ecr-pull', force = true, dryRun = false }: { name?: string; force?: boolean; dryRun?: boolean } = {},
): Promise<Answer<Status>> {
  return us.request<Status>('PATCH', secretPath(namespace, name), {
    query: { fieldManager: 'ecr-pull-secrets', ...(force && { force: 'true' }), ...(dryRun && { dryRun: 'All' }) },
    contentType: 'application/apply-patch+yaml',
    body: { apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace, ...metadata }, ...rest },
  });
}

function patch(path: string, body: unknown, contentType = 'application/merge-patch+json'): Promise<Answer<Status>> {
  return us.request<Status>('PATCH', path, { query: { fieldManager: 'ecr-pull-secrets' }, body, contentType });
}

function jsonPatch(path: string, ...operations: object[]): Promise<Answer<Status>> {
  return patch(path, operations, 'application/json-patch+json');
}

/**
 * The policy's words where it refused, in a form that reads unlike a missing right and unlike a failed JSON patch; else
 * what came instead.
 */
function refusal({ status, body }: Answer<Status>): string {
  const message = body.details?.causes?.[0]?.message ?? '';
  const isPolicy = status === 403 && message.startsWith("ValidatingAdmissionPolicy 'ecr-pull-secrets'");
  return isPolicy ? message : `not refused by the policy: ${status} ${body.message}`;
}

describe('RBAC', () => {
  const rulesIn = async (namespace: string): Promise<Right[]> => {
    const answer = await us.request<{ status: { resourceRules: Parameters<typeof rightsOf>[0] } }>(
      'POST',
      '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews',
      { body: { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectRulesReview', spec: { namespace } } },
    );
    // What every authenticated user may: ask about itself.
    const rules = answer.body.status.resourceRules.filter(({ resources }) => !resources[0]?.startsWith('selfsubject'));
    return sorted(rightsOf(rules, false));
  };
  const [table] = rightsTables();

  test('gives in a foreign namespace what the table of the security model says, and nothing else', async () => {
    const expected = sorted(table.filter((right) => !right.isNamespaced));
    expect(await rulesIn('kube-system')).toEqual(expected);
  });

  test('gives in its own namespace the rest of the table, and nothing else', async () => {
    const expected = sorted(table.map((right) => ({ ...right, isNamespaced: false })));
    expect(await rulesIn(operatorNamespace)).toEqual(expected);
  });

  const own = `/api/v1/namespaces/${operatorNamespace}`;
  const ofName = (name: string) => `fieldSelector=metadata.name%3D${name}`;
  test.each([
    ['all Secrets', 'GET', '/api/v1/secrets'],
    ['Secrets by label', 'GET', '/api/v1/secrets?labelSelector=app.kubernetes.io/managed-by%3Decr-pull-secrets'],
    ['Secrets of another name', 'GET', `/api/v1/secrets?${ofName('other')}`],
    ['the Secrets of its own namespace', 'GET', `${own}/secrets`],
    ['one of another name', 'GET', '/api/v1/namespaces/kube-system/secrets/other'],
    ['AWS keys elsewhere', 'GET', `/api/v1/namespaces/team/secrets?${ofName('aws-credentials')}`],
    ['the token store elsewhere', 'GET', '/api/v1/namespaces/team/secrets/ecr-pull-tokens'],
    ['an AWS key by get', 'GET', `${own}/secrets/aws-credentials`],
    ['writing AWS keys', 'PATCH', `${own}/secrets/aws-credentials`],
    ['deleting the token store', 'DELETE', `${own}/secrets/ecr-pull-tokens`],
    ['deleting all of our name', 'DELETE', `/api/v1/namespaces/team/secrets?${ofName('ecr-pull')}`],
    ['a Secret by POST', 'POST', '/api/v1/namespaces/team/secrets'],
    ['a Secret by PUT', 'PUT', '/api/v1/namespaces/team/secrets/ecr-pull'],
    ['a token of a ServiceAccount', 'POST', '/api/v1/namespaces/kube-system/serviceaccounts/default/token'],
    ['a ServiceAccount by PUT', 'PUT', '/api/v1/namespaces/team/serviceaccounts/default'],
    ['a new ServiceAccount', 'POST', '/api/v1/namespaces/team/serviceaccounts'],
    ['deleting a ServiceAccount', 'DELETE', '/api/v1/namespaces/team/serviceaccounts/default'],
    ['deleting a namespace', 'DELETE', '/api/v1/namespaces/team'],
    ['labelling a namespace', 'PATCH', '/api/v1/namespaces/team'],
    ['pods', 'GET', '/api/v1/pods'],
    ['a pod', 'POST', '/api/v1/namespaces/team/pods'],
    ['config maps', 'GET', `${own}/configmaps`],
    ['nodes', 'GET', '/api/v1/nodes'],
    ['the spec of a resource', 'PATCH', '/apis/ecr.pullsecrets.io/v1alpha1/clusterecrpullsecrets/any'],
    ['deleting a resource', 'DELETE', '/apis/ecr.pullsecrets.io/v1alpha1/clusterecrpullsecrets/any'],
    ['all CRDs', 'GET', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'],
    ['its own policy', 'GET', '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/ecr-pull-secrets'],
    [
      'deleting the policy',
      'DELETE',
      '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/ecr-pull-secrets',
    ],
    ['its own role', 'PATCH', '/apis/rbac.authorization.k8s.io/v1/clusterroles/ecr-pull-secrets'],
    ['its own Deployment', 'PATCH', `/apis/apps/v1/namespaces/${operatorNamespace}/deployments/ecr-pull-secrets`],
    ['a foreign Lease', 'PUT', `/apis/coordination.k8s.io/v1/namespaces/${operatorNamespace}/leases/other`],
    ['a Lease elsewhere', 'POST', '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases'],
    ['all events', 'GET', '/apis/events.k8s.io/v1/events'],
  ] as const)('refuses: %s', async (_, method, path) => {
    const body = method === 'GET' || method === 'DELETE' ? {} : { body: {} };
    const contentType = method === 'PATCH' ? { contentType: 'application/merge-patch+json' } : {};
    const answer = await us.request<Status>(method, path, { ...body, ...contentType });
    expect(answer).toMatchObject({ status: 403 });
    expect(answer.body.details?.causes).toBeUndefined();
  });

  test.each([
    ['pull secrets of all namespaces', `/api/v1/secrets?${ofName('ecr-pull')}`],
    ['AWS keys of its own namespace', `${own}/secrets?${ofName('aws-credentials')}`],
    ['namespaces', '/api/v1/namespaces'],
    ['ServiceAccounts', '/api/v1/serviceaccounts'],
    ['resources', '/apis/ecr.pullsecrets.io/v1alpha1/clusterecrpullsecrets'],
    [
      'the CRD',
      `/apis/apiextensions.k8s.io/v1/customresourcedefinitions?${ofName('clusterecrpullsecrets.ecr.pullsecrets.io')}`,
    ],
  ])('lists: %s', async (_, path) => {
    // 429 while the API server still makes the storage of a CRD that is seconds old.
    const status = await eventually('the storage is there', async () => {
      const answer = await us.request('GET', path);
      return answer.status !== 429 && answer.status;
    });
    expect(status).toBe(200);
  });
});

describe('the policy', () => {
  test('has no warnings from the type check', async () => {
    interface Policy extends KubeObject {
      status?: { observedGeneration?: number; typeChecking?: { expressionWarnings?: object[] } };
    }
    const path = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/ecr-pull-secrets';
    const policy = await admin.waitFor<Policy>(
      path,
      ({ status, metadata }) => status?.observedGeneration === metadata.generation,
    );
    expect(policy.status?.typeChecking?.expressionWarnings ?? []).toEqual([]);
  });

  test.each(['kube-system', 'team', operatorNamespace])(
    "refuses the takeover by a service account's token as our Secret in %s",
    async (name) => {
      expect(refusal(await applySecret(name, tokenSecret))).toContain('another type');
      expect(await admin.get(secretPath(name))).toBeNull();
    },
  );

  test('refuses the takeover under the name of the token store', async () => {
    expect(refusal(await applySecret(operatorNamespace, tokenSecret, { name: 'ecr-pull-tokens' }))).toContain(
      'another type',
    );
  });

  test('refuses a dry run as well: that is how the operator asks', async () => {
    expect(refusal(await applySecret('kube-system', tokenSecret, { dryRun: true }))).toContain('another type');
  });

  test.each(['Opaque', undefined])('refuses our Secret with type %s', async (type) => {
    expect(refusal(await applySecret('team', { ...pullSecret, type }))).toContain('another type');
  });

  test('lets the token store be written, of its own type alone', async () => {
    const data = { 'tokens.json': Buffer.from('[]').toString('base64') };
    const store = { ...pullSecret, type: 'ecr.pullsecrets.io/tokens', data };
    const name = 'ecr-pull-tokens';
    expect(refusal(await applySecret(operatorNamespace, pullSecret, { name }))).toContain('another type');
    expect(await applySecret(operatorNamespace, store, { name })).toMatchObject({ status: 201 });
    expect(await applySecret(operatorNamespace, store, { name })).toMatchObject({ status: 200 });
    expect(refusal(await applySecret(operatorNamespace, store))).toContain('another type');
  });

  test('lets ours be made, refreshed and deleted', async () => {
    await namespace('ours');
    expect(await applySecret('ours', pullSecret, { force: false })).toMatchObject({ status: 201 });
    const next = { ...pullSecret, data: { '.dockerconfigjson': dockerConfig({ 'a.example': { auth: 'QTpC' } }) } };
    expect(await applySecret('ours', next)).toMatchObject({ status: 200 });
    expect(await us.request('DELETE', secretPath('ours'))).toMatchObject({ status: 200 });
  });

  test('refuses a foreign Secret of our name: apply, patches, deletion, and our marks on it', async () => {
    await namespace('foreign');
    const { type, data } = pullSecret;
    const metadata = { name: 'ecr-pull', namespace: 'foreign' };
    await admin.create({ apiVersion: 'v1', kind: 'Secret', metadata, type, data });
    expect(refusal(await applySecret('foreign', pullSecret))).toContain('not of ecr-pull-secrets');
    expect(refusal(await patch(secretPath('foreign'), {}))).toContain('not of ecr-pull-secrets');
    expect(refusal(await patch(secretPath('foreign'), { metadata: pullSecret.metadata }))).toContain(
      'not of ecr-pull-secrets',
    );
    expect(refusal(await us.request<Status>('DELETE', secretPath('foreign')))).toContain('not of ecr-pull-secrets');
    // One label hands it over.
    await admin.patch(secretPath('foreign'), { metadata: pullSecret.metadata });
    expect(await applySecret('foreign', pullSecret)).toMatchObject({ status: 200 });
  });

  test.each([
    ['label', { labels: { 'app.kubernetes.io/managed-by': 'ecr-pull-secrets' } }],
    ['annotation', { annotations: { 'ecr.pullsecrets.io/hosts': '{}' } }],
  ])('knows ours by its %s alone', async (mark, metadata) => {
    await namespace(`mark-${mark}`);
    const path = secretPath(`mark-${mark}`);
    expect(await applySecret(`mark-${mark}`, pullSecret)).toMatchObject({ status: 201 });
    await admin.patch(path, { metadata: { labels: null, annotations: null, managedFields: [{}] } });
    expect(refusal(await applySecret(`mark-${mark}`, pullSecret))).toContain('not of ecr-pull-secrets');
    await admin.patch(path, { metadata });
    expect(await applySecret(`mark-${mark}`, pullSecret)).toMatchObject({ status: 200 });
  });

  test('knows ours by its field manager alone', async () => {
    await namespace('mark-manager');
    expect(await applySecret('mark-manager', pullSecret)).toMatchObject({ status: 201 });
    await admin.patch(secretPath('mark-manager'), { metadata: { labels: null, annotations: null } });
    expect(await applySecret('mark-manager', pullSecret)).toMatchObject({ status: 200 });
  });

  test('refuses to put finalizers or owners on ours', async () => {
    await namespace('held');
    const finalizers = ['example.org/hold'];
    expect(refusal(await applySecret('held', { ...pullSecret, metadata: { finalizers } }))).toContain('finalizer');
    expect(await applySecret('held', pullSecret)).toMatchObject({ status: 201 });
    expect(refusal(await applySecret('held', { ...pullSecret, metadata: { finalizers } }))).toContain('finalizer');
    const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: '1d5a4d8e-0000-4000-8000-000000000000' };
    expect(refusal(await patch(secretPath('held'), { metadata: { ownerReferences: [owner] } }))).toContain('owner');
  });

  test("refreshes ours with somebody else's finalizer and owner on it, and leaves them there", async () => {
    await namespace('owned');
    await applySecret('owned', pullSecret);
    const config = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'owner', namespace: 'owned' } };
    const { metadata } = await admin.create(config);
    const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: metadata.uid, controller: true };
    const theirs = { ownerReferences: [owner], finalizers: ['example.org/hold'] };
    await admin.patch(secretPath('owned'), { metadata: theirs });
    const next = { ...pullSecret, data: { '.dockerconfigjson': dockerConfig({ 'a.example': { auth: 'QTpC' } }) } };
    expect(await applySecret('owned', next)).toMatchObject({ status: 200 });
    expect(await admin.get(secretPath('owned'))).toMatchObject({ metadata: theirs, data: next.data });
    expect(refusal(await patch(secretPath('owned'), { metadata: { finalizers: null } }))).toContain('finalizer');
    expect(refusal(await patch(secretPath('owned'), { metadata: { ownerReferences: null } }))).toContain('owner');
    expect(await us.request('DELETE', secretPath('owned'))).toMatchObject({ status: 200 });
    await admin.patch(secretPath('owned'), { metadata: { finalizers: null } });
  });

  test("lets our entry be added and removed among others', and refuses everything else of a ServiceAccount", async () => {
    await namespace('accounts');
    const path = accountPath('accounts');
    const others = [{ name: 'a' }, { name: 'b' }];
    await admin.patch(path, { imagePullSecrets: others, secrets: [{ name: 's' }], metadata: { labels: { l: '1' } } });
    const add = { op: 'add', path: '/imagePullSecrets/-', value: { name: 'ecr-pull' } };
    expect(await jsonPatch(path, add)).toMatchObject({ status: 200 });
    expect(refusal(await jsonPatch(path, add))).toContain('only once');
    const everythingElse: [string, object][] = [
      ['another entry', { op: 'add', path: '/imagePullSecrets/-', value: { name: 'other' } }],
      ["others' entry gone", { op: 'remove', path: '/imagePullSecrets/0' }],
      ["others' order", { op: 'move', from: '/imagePullSecrets/1', path: '/imagePullSecrets/0' }],
      ['the whole list', { op: 'replace', path: '/imagePullSecrets', value: [{ name: 'ecr-pull' }] }],
      ['an annotation', { op: 'add', path: '/metadata/annotations', value: { 'eks.amazonaws.com/role-arn': 'x' } }],
      ['a label', { op: 'add', path: '/metadata/labels/l', value: '2' }],
      ['labels gone', { op: 'remove', path: '/metadata/labels' }],
      ['a finalizer', { op: 'add', path: '/metadata/finalizers', value: ['example.org/hold'] }],
      [
        'an owner',
        {
          op: 'add',
          path: '/metadata/ownerReferences',
          value: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'x', uid: 'x' }],
        },
      ],
      ['its secrets', { op: 'add', path: '/secrets/-', value: { name: 'ecr-pull' } }],
      ['its token', { op: 'add', path: '/automountServiceAccountToken', value: false }],
    ];
    for (const [what, operation] of everythingElse) {
      const reason = refusal(await jsonPatch(path, operation));
      expect({ what, reason }).toEqual({ what, reason: expect.stringContaining('nothing of a ServiceAccount') });
    }
    const remove = [
      { op: 'test', path: '/imagePullSecrets/2/name', value: 'ecr-pull' },
      { op: 'remove', path: '/imagePullSecrets/2' },
    ];
    expect(await jsonPatch(path, ...remove)).toMatchObject({ status: 200 });
    expect(await admin.get(path)).toMatchObject({ imagePullSecrets: others, metadata: { labels: { l: '1' } } });
  });

  test('lets one of three of our entries be removed', async () => {
    await namespace('thrice');
    const ours = { name: 'ecr-pull' };
    await admin.patch(accountPath('thrice'), { imagePullSecrets: [ours, ours, ours] });
    expect(await jsonPatch(accountPath('thrice'), { op: 'remove', path: '/imagePullSecrets/2' })).toMatchObject({
      status: 200,
    });
    expect(
      refusal(await jsonPatch(accountPath('thrice'), { op: 'add', path: '/imagePullSecrets/-', value: ours })),
    ).toContain('only once');
  });

  test('lets the second patch through, which gives up the ownership of the list', async () => {
    await namespace('applied');
    const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'app', namespace: 'applied' } };
    await admin.apply({ ...account, imagePullSecrets: [{ name: 'own' }] }, { manager: 'helm' });
    const path = accountPath('applied', 'app');
    expect(
      await jsonPatch(path, { op: 'add', path: '/imagePullSecrets/-', value: { name: 'ecr-pull' } }),
    ).toMatchObject({ status: 200 });
    const { metadata } = await admin.waitFor(path);
    const index = metadata.managedFields?.findIndex(({ manager }) => manager === 'ecr-pull-secrets') ?? -1;
    const release = [
      { op: 'test', path: `/metadata/managedFields/${index}/manager`, value: 'ecr-pull-secrets' },
      { op: 'replace', path: `/metadata/managedFields/${index}/fieldsV1`, value: { 'f:metadata': {} } },
    ];
    expect(await jsonPatch(path, ...release)).toMatchObject({ status: 200 });
    await admin.apply({ ...account, imagePullSecrets: [{ name: 'own' }] }, { manager: 'helm' });
  });

  test('a JSON patch whose test fails reads unlike a denial', async () => {
    const answer = await jsonPatch(accountPath('team'), { op: 'test', path: '/metadata/resourceVersion', value: '1' });
    expect(answer).toMatchObject({ status: 422 });
    expect(answer.body.details?.causes).toBeUndefined();
  });

  test('leaves everybody else alone', async () => {
    await namespace('everybody');
    const metadata = { name: 'ecr-pull', namespace: 'everybody' };
    await admin.create({ apiVersion: 'v1', kind: 'Secret', type: 'Opaque', metadata });
    await admin.patch(secretPath('everybody'), { metadata: { finalizers: ['example.org/hold'] } });
    await admin.patch(secretPath('everybody'), { metadata: { finalizers: null } });
    const account = await admin.patch(accountPath('everybody'), { metadata: { annotations: { a: 'b' } } });
    expect(account.metadata.annotations).toEqual({ a: 'b' });
  });

  test('binds cleanup as well', async () => {
    const account = { namespace: operatorNamespace, name: 'ecr-pull-secrets-cleanup' };
    await admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: account });
    const subject = `${account.namespace}:${account.name}`;
    await cluster.kubectl(
      ...['create', 'clusterrolebinding', 'cleanup-test', '--clusterrole=ecr-pull-secrets'],
      `--serviceaccount=${subject}`,
    );
    const cleanup = await cluster.clientFor(account);
    await namespace('cleaned');
    const metadata = { name: 'ecr-pull', namespace: 'cleaned' };
    await admin.create({ apiVersion: 'v1', kind: 'Secret', metadata, type: pullSecret.type, data: pullSecret.data });
    const remove = () => cleanup.request<Status>('DELETE', secretPath('cleaned'));
    await eventually('the rights are there', async () => (await remove()).body.details?.causes);
    expect(refusal(await remove())).toContain('not of ecr-pull-secrets');
    await admin.patch(secretPath('cleaned'), { metadata: pullSecret.metadata });
    expect(await remove()).toMatchObject({ status: 200 });
  });
});
