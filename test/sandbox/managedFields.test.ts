import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ApiServer } from './apiServer.ts';
import type { KubeObject } from './kubeObject.ts';
import { LocalFailure, type LocalClient, type Manifest } from './localClient.ts';

// What a real API server (1.36) did when it was tried; the sandbox does the same.

const MANAGER = 'ecr-pull-secrets';
const secretPath = '/api/v1/namespaces/team/secrets/ecr-pull';
const accountPath = '/api/v1/namespaces/team/serviceaccounts/app';

let api: ApiServer;
let admin: LocalClient;
beforeEach(async () => {
  api = await ApiServer.start();
  admin = api.admin;
  admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team' } });
});
afterEach(() => api.close());

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function manifest(o: { text?: string; metadata?: object; more?: object } = {}): Manifest {
  return {
    ...{ apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/dockerconfigjson' },
    metadata: {
      ...{ name: 'ecr-pull', namespace: 'team' },
      labels: { 'app.kubernetes.io/managed-by': MANAGER },
      annotations: { 'ecr.pullsecrets.io/hosts': '{}' },
      ...o.metadata,
    },
    data: { '.dockerconfigjson': base64(o.text ?? '{"auths":{}}') },
    ...o.more,
  };
}

function apply(o: Parameters<typeof manifest>[0] = {}, force = true): KubeObject {
  return admin.apply(manifest(o), { manager: MANAGER, force });
}

function ownedBy(object: KubeObject, manager = MANAGER): object | undefined {
  return object.metadata.managedFields?.find((entry) => entry.manager === manager)?.fieldsV1;
}

/** The status of a refusal: its code and causes. */
function refusal(fn: () => unknown): { code: number; causes: { field?: string; reason?: string; message?: string }[] } {
  try {
    fn();
  } catch (error) {
    if (error instanceof LocalFailure) return { code: error.code, causes: error.status.details?.causes ?? [] };
    throw error;
  }
  throw new Error('it was not refused');
}

function codeOf(fn: () => unknown): number {
  try {
    fn();
    return 200;
  } catch (error) {
    return error instanceof LocalFailure ? error.code : 0;
  }
}

describe('who owns the fields of a Secret', () => {
  it('an apply owns what it names, and a second one of the same is no change', () => {
    const first = apply();
    const leaves = {
      'f:data': { 'f:.dockerconfigjson': {} },
      'f:metadata': {
        'f:annotations': { 'f:ecr.pullsecrets.io/hosts': {} },
        'f:labels': { 'f:app.kubernetes.io/managed-by': {} },
      },
      'f:type': {},
    };
    expect(first.metadata.managedFields).toMatchObject([{ manager: MANAGER, operation: 'Apply', fieldsV1: leaves }]);
    expect(apply().metadata.resourceVersion).toBe(first.metadata.resourceVersion);
  });

  it.each<[string, object, string[]]>([
    ['data', { data: { '.dockerconfigjson': base64('{}') } }, ['f:data', 'f:.dockerconfigjson']],
    [
      'the annotation',
      { metadata: { annotations: { 'ecr.pullsecrets.io/hosts': 'x' } } },
      ['f:metadata', 'f:annotations', 'f:ecr.pullsecrets.io/hosts'],
    ],
    [
      'the label, by removing it',
      { metadata: { labels: { 'app.kubernetes.io/managed-by': null } } },
      ['f:metadata', 'f:labels', 'f:app.kubernetes.io/managed-by'],
    ],
  ])("another's merge patch takes %s away, and leaves the rest", (_, patch, field) => {
    expect(ownedBy(apply())).toHaveProperty(field);
    const fields = ownedBy(admin.merge(secretPath, patch, 'other'));
    expect(fields).not.toHaveProperty(field);
    expect(fields).toHaveProperty('f:type');
  });

  it('a PUT of the same content changes nothing, an extra key is its own', () => {
    const live = apply();
    const put = admin.replace(secretPath, live, 'other');
    expect(put.metadata.managedFields).toEqual(live.metadata.managedFields);
    const data = { ...(live['data'] as object), extra: base64('x') };
    const more = admin.replace(secretPath, { ...live, data }, 'other');
    expect(ownedBy(more)).toEqual(ownedBy(live));
    expect(ownedBy(more, 'other')).toEqual({ 'f:data': { 'f:extra': {} } });
  });

  it('a forced apply of another takes what differs, and shares the rest', () => {
    apply();
    const after = admin.apply(manifest({ text: '{"auths":{"x":{}}}' }), { manager: 'other' });
    expect(ownedBy(after)).not.toHaveProperty('f:data');
    expect(ownedBy(after)).toHaveProperty('f:type');
    expect(ownedBy(after, 'other')).toMatchObject({ 'f:data': { 'f:.dockerconfigjson': {} }, 'f:type': {} });
  });

  it('stripped managedFields: an unforced apply conflicts with before-first-apply, a forced one succeeds', () => {
    apply();
    expect(admin.merge(secretPath, { metadata: { managedFields: [{}] } }).metadata.managedFields ?? []).toEqual([]);
    const { code, causes } = refusal(() => apply({ text: '{"auths":{"x":{}}}' }, false));
    expect(code).toBe(409);
    expect(causes[0]).toMatchObject({
      reason: 'FieldManagerConflict',
      message: expect.stringContaining('before-first-apply') as string,
    });
    expect(ownedBy(apply({ text: '{"auths":{"x":{}}}' }))).toHaveProperty('f:data');
  });

  it('a foreign Secret: an unforced apply is a conflict that names the fields, a forced one overwrites', () => {
    admin.create(manifest({ metadata: { labels: {}, annotations: {} }, text: '{"auths":{"y":{}}}' }));
    const { code, causes } = refusal(() => apply({}, false));
    expect(code).toBe(409);
    expect(causes.map(({ field }) => field)).toContain('.data..dockerconfigjson');
    expect(apply()['data']).toEqual({ '.dockerconfigjson': base64('{"auths":{}}') });
  });
});

describe('preconditions of an apply', () => {
  it.each([
    ['uid and resourceVersion of now', (live: KubeObject) => live.metadata, 200],
    ['a stale resourceVersion', ({ metadata: { uid } }: KubeObject) => ({ uid, resourceVersion: '1' }), 409],
    ['both wrong', () => ({ uid: 'x', resourceVersion: '1' }), 409],
    ['a wrong uid', ({ metadata: { resourceVersion } }: KubeObject) => ({ uid: 'x', resourceVersion }), 422],
  ])('%s: %i', (_, of, code) => {
    const { uid, resourceVersion } = of(apply());
    expect(codeOf(() => apply({ metadata: { uid, resourceVersion }, text: '{"auths":{"x":{}}}' }))).toBe(code);
  });

  it('a wrong uid names its field', () => {
    apply();
    expect(refusal(() => apply({ metadata: { uid: 'x' }, text: '{}' })).causes[0]).toMatchObject({
      field: 'metadata.uid',
    });
  });

  it('on a Secret that is absent: a uid is a conflict, a resourceVersion alone makes it anew', () => {
    expect(refusal(() => apply({ metadata: { uid: 'x', resourceVersion: '1' } })).code).toBe(409);
    expect(apply({ metadata: { resourceVersion: '1' } }).metadata.uid).toBeDefined();
  });
});

describe('a Secret that cannot be changed', () => {
  it('immutable: other data is 422, the same is not; only the field `immutable` shows it in managedFields', () => {
    apply();
    const live = admin.merge(secretPath, { immutable: true }, 'other');
    expect(ownedBy(live, 'other')).toEqual({ 'f:immutable': {} });
    expect(apply().metadata.resourceVersion).toBe(live.metadata.resourceVersion);
    expect(refusal(() => apply({ text: '{"auths":{"x":{}}}' }))).toMatchObject({
      code: 422,
      causes: [{ field: 'data' }],
    });
    expect(refusal(() => apply({ more: { immutable: false } })).causes).toMatchObject([
      { field: 'immutable', message: expect.stringContaining('field is immutable when `immutable` is set') as string },
    ]);
  });

  it('another type is 422 and names the field', () => {
    admin.create({
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'Opaque',
      metadata: { name: 'ecr-pull', namespace: 'team' },
    });
    expect(refusal(() => apply())).toMatchObject({ code: 422, causes: [{ field: 'type' }] });
  });

  it('a dry run is refused or answered, and stores nothing', () => {
    const path = '/api/v1/namespaces/team/secrets/other';
    const body = { ...manifest(), metadata: { name: 'other', namespace: 'team' } };
    const query = { dryRun: 'All', fieldManager: MANAGER, force: 'true' };
    expect(admin.request({ method: 'PATCH', patch: 'apply', path, query, body }).metadata.name).toBe('other');
    expect(admin.find(path)).toBeNull();
  });
});

describe("a ServiceAccount's list", () => {
  const account: Manifest = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'app', namespace: 'team' } };
  const own = { ...account, imagePullSecrets: [{ name: 'own' }] };
  const helm = (body: Manifest): KubeObject => admin.apply(body, { manager: 'helm', force: false });

  function addOurs(): KubeObject {
    const { metadata, imagePullSecrets } = admin.get(accountPath);
    const path = imagePullSecrets ? '/imagePullSecrets/-' : '/imagePullSecrets';
    const value = imagePullSecrets ? { name: 'ecr-pull' } : [{ name: 'ecr-pull' }];
    const test = { op: 'test', path: '/metadata/resourceVersion', value: metadata.resourceVersion };
    return admin.jsonPatch(accountPath, [test, { op: 'add', path, value }], MANAGER);
  }

  function release(live: KubeObject): KubeObject {
    const index = live.metadata.managedFields?.findIndex(({ manager }) => manager === MANAGER) ?? -1;
    const path = `/metadata/managedFields/${index}`;
    const patch = [
      { op: 'test', path: '/metadata/resourceVersion', value: live.metadata.resourceVersion },
      { op: 'test', path: `${path}/manager`, value: MANAGER },
      { op: 'replace', path: `${path}/fieldsV1`, value: { 'f:metadata': {} } },
    ];
    return admin.jsonPatch(accountPath, patch, MANAGER);
  }

  it("after our patch the owner's next apply is a conflict with our manager", () => {
    helm(own);
    const live = addOurs();
    expect(ownedBy(live)).toEqual({ 'f:imagePullSecrets': {} });
    expect(refusal(() => helm(own))).toMatchObject({
      code: 409,
      causes: [{ field: '.imagePullSecrets', message: expect.stringContaining(MANAGER) as string }],
    });
  });

  it('a second patch that empties our claim lets it succeed, and drop our entry; any number of rounds', () => {
    helm(own);
    for (let round = 1; round <= 3; round++) {
      release(addOurs());
      expect(helm(own)['imagePullSecrets']).toEqual([{ name: 'own' }]);
    }
  });

  it('our entry gone and no claim left: the owner is in conflict with before-first-apply', () => {
    helm(own);
    addOurs();
    const live = admin.get(accountPath);
    admin.jsonPatch(
      accountPath,
      [
        { op: 'remove', path: '/imagePullSecrets/1' },
        { op: 'replace', path: '/metadata/managedFields', value: [{}] },
      ],
      MANAGER,
    );
    expect(live.metadata.managedFields).toHaveLength(1);
    expect(refusal(() => helm({ ...own, imagePullSecrets: [{ name: 'another' }] })).causes[0]?.message).toContain(
      'before-first-apply',
    );
  });

  it('an apply without a list is never in conflict', () => {
    helm({ ...account, metadata: { ...account.metadata, labels: { team: 'a' } } });
    addOurs();
    expect(helm(account)['imagePullSecrets']).toEqual([{ name: 'ecr-pull' }]);
  });

  it('of an object that nobody has applied no books are kept', () => {
    admin.create(account);
    expect(addOurs().metadata.managedFields ?? []).toEqual([]);
  });

  it('a forced apply and a merge patch replace it whole', () => {
    admin.create(account);
    addOurs();
    expect(admin.merge(accountPath, { imagePullSecrets: [{ name: 'own' }] })['imagePullSecrets']).toEqual([
      { name: 'own' },
    ]);
    expect(admin.apply({ ...own, imagePullSecrets: [{ name: 'x' }] }, { manager: 'x' })['imagePullSecrets']).toEqual([
      { name: 'x' },
    ]);
  });
});

describe('JSON patches', () => {
  const account: Manifest = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'app', namespace: 'team' } };
  const entry = { name: 'ecr-pull' };

  it.each<[string, object[]]>([
    ['a test that fails', [{ op: 'test', path: '/metadata/resourceVersion', value: '1' }]],
    ['a list that is absent', [{ op: 'add', path: '/imagePullSecrets/-', value: entry }]],
    ['a missing path', [{ op: 'remove', path: '/imagePullSecrets/0' }]],
  ])('%s is 422 without causes', (_, patch) => {
    admin.create(account);
    expect(refusal(() => admin.jsonPatch(accountPath, patch))).toEqual({ code: 422, causes: [] });
  });

  it('a missing member equals null in a test', () => {
    admin.create(account);
    const patch = [
      { op: 'test', path: '/imagePullSecrets', value: null },
      { op: 'add', path: '/imagePullSecrets', value: [entry] },
    ];
    expect(admin.jsonPatch(accountPath, patch)['imagePullSecrets']).toEqual([entry]);
    expect(refusal(() => admin.jsonPatch(accountPath, patch)).code).toBe(422);
  });

  it('the same name twice is taken', () => {
    admin.create({ ...account, imagePullSecrets: [entry] });
    const patch = [{ op: 'add', path: '/imagePullSecrets/-', value: entry }];
    expect(admin.jsonPatch(accountPath, patch)['imagePullSecrets']).toEqual([entry, entry]);
  });

  it('a merge patch with a stale resourceVersion is a conflict', () => {
    admin.create(account);
    expect(refusal(() => admin.merge(accountPath, { metadata: { resourceVersion: '1' } })).code).toBe(409);
  });
});
