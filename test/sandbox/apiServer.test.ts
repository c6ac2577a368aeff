import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { adminToken, ApiServer } from './apiServer.ts';
import { createAuthority, loopbackNames } from './certificate.ts';
import { htmlPage, tooManyRequests } from './faults.ts';
import type { Manifest } from './localClient.ts';
import { operatorPolicy } from './operatorPolicy.ts';
import { operatorRules, rbac } from './operatorRights.ts';

const operator = { name: 'system:serviceaccount:ops:ecr-pull-secrets', groups: ['system:authenticated'] };
const secretNames = ['ecr-pull', 'old-pull'];
const rules = operatorRules({ namespace: 'ops', secretNames, credentialSecretNames: ['aws-credentials'] });
const secrets = '/api/v1/namespaces/team/secrets';

let api: ApiServer;
beforeEach(async () => {
  api = await ApiServer.start({
    users: { operator },
    authorize: rbac((name) => (name === operator.name ? rules : [])),
    admission: operatorPolicy({ namespace: 'ops', secretNames, users: [operator.name] }),
  });
  for (const name of ['ops', 'team']) {
    api.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  }
});
afterEach(() => api.close());

interface StatusBody {
  message?: string;
  reason?: string;
  details?: { causes?: { message?: string }[] };
}

type Init = Omit<RequestInit, 'headers'> & { headers?: Record<string, string> };

async function ask(path: string, token: string | null = 'operator', init: Init = {}) {
  const headers = { ...(token !== null && { authorization: `Bearer ${token}` }) };
  const response = await fetch(`${api.url}${path}`, { ...init, headers: { ...headers, ...init.headers } });
  const text = await response.text();
  const body = (text.startsWith('{') ? JSON.parse(text) : { message: text }) as StatusBody;
  return { code: response.status, body, headers: response.headers };
}

function apply(path: string, body: unknown, force = true) {
  const headers = { 'content-type': 'application/apply-patch+yaml' };
  const query = `?fieldManager=ecr-pull-secrets&force=${String(force)}`;
  return ask(`${path}${query}`, 'operator', { method: 'PATCH', headers, body: JSON.stringify(body) });
}

function jsonPatch(path: string, body: unknown) {
  const headers = { 'content-type': 'application/json-patch+json' };
  return ask(path, 'operator', { method: 'PATCH', headers, body: JSON.stringify(body) });
}

function pullSecret(metadata: object = {}, more: object = {}): Manifest {
  const data = { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') };
  const kinds = { apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/dockerconfigjson' };
  return { ...kinds, metadata: { name: 'ecr-pull', namespace: 'team', ...metadata }, data, ...more };
}

describe('who asks', () => {
  it('is known by the token; without one nobody', async () => {
    expect((await ask('/api/v1/namespaces', 'nobody')).code).toBe(401);
    expect((await ask('/api/v1/namespaces', null)).body.message).toContain('User "system:anonymous" cannot list');
    expect((await ask('/api/v1/namespaces', adminToken)).code).toBe(200);
    expect((await ask('/readyz', null)).code).toBe(200);
  });

  it('and is told what is missing in the words of RBAC', async () => {
    const { code, body } = await ask('/api/v1/namespaces/team/configmaps/c');
    expect(code).toBe(403);
    expect(body).toMatchObject({ reason: 'Forbidden', details: { name: 'c', kind: 'configmaps' } });
    expect(body.message).toBe(
      'configmaps "c" is forbidden: User "system:serviceaccount:ops:ecr-pull-secrets" cannot get resource "configmaps" in API group "" in the namespace "team"',
    );
  });

  it('POST has no name, so a Secret can be made by an apply alone', async () => {
    const init = { method: 'POST', body: JSON.stringify(pullSecret()) };
    expect((await ask(secrets, 'operator', init)).code).toBe(403);
    expect((await apply(`${secrets}/ecr-pull`, pullSecret())).code).toBe(201);
    expect((await apply(`${secrets}/other`, pullSecret({ name: 'other' }))).code).toBe(403);
  });

  it('may ask what it may do', async () => {
    const allowed = async (resourceAttributes: object): Promise<unknown> => {
      const body = JSON.stringify({ spec: { resourceAttributes } });
      const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
      const answer = await ask(path, 'operator', { method: 'POST', body });
      return (answer.body as { status?: { allowed: boolean } }).status?.allowed;
    };
    expect(await allowed({ verb: 'list', resource: 'secrets', name: 'ecr-pull' })).toBe(true);
    expect(await allowed({ verb: 'list', resource: 'secrets' })).toBe(false);
    expect(await allowed({ verb: 'patch', resource: 'serviceaccounts', namespace: 'team' })).toBe(true);
  });
});

describe('the policy', () => {
  it('is told apart from a failed test by its cause', async () => {
    api.admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'app', namespace: 'team' } });
    const path = '/api/v1/namespaces/team/serviceaccounts/app';
    const denied = await jsonPatch(path, [{ op: 'add', path: '/metadata/annotations', value: { role: 'admin' } }]);
    expect(denied.code).toBe(403);
    expect(denied.body.details?.causes?.[0]?.message).toMatch(
      /^ValidatingAdmissionPolicy 'ecr-pull-secrets' with binding 'ecr-pull-secrets' denied request: /,
    );
    const failed = await jsonPatch(path, [{ op: 'test', path: '/metadata/resourceVersion', value: '1' }]);
    expect(failed).toMatchObject({ code: 422, body: { reason: 'Invalid', details: {} } });
  });

  it.each([
    ['its entry once', [{ name: 'ecr-pull' }], 200],
    ['and an older name', [{ name: 'old-pull' }, { name: 'ecr-pull' }], 200],
    ['twice', [{ name: 'ecr-pull' }, { name: 'ecr-pull' }], 403],
    ['another', [{ name: 'foreign' }], 403],
  ])('lets ServiceAccounts get %s: %j is %i', async (_, value, code) => {
    api.admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'app', namespace: 'team' } });
    const patch = [{ op: 'add', path: '/imagePullSecrets', value }];
    expect((await jsonPatch('/api/v1/namespaces/team/serviceaccounts/app', patch)).code).toBe(code);
  });

  it('keeps from foreign Secrets, other types, finalizers and owners', async () => {
    const path = `${secrets}/ecr-pull`;
    expect((await apply(path, pullSecret({}, { type: 'Opaque' }))).code).toBe(403);
    expect((await apply(path, pullSecret({ finalizers: ['a.b/c'] }))).code).toBe(403);
    api.admin.create(pullSecret());
    expect((await apply(path, pullSecret())).code).toBe(403);
    const own = { 'app.kubernetes.io/managed-by': 'ecr-pull-secrets' };
    expect((await apply(path, pullSecret({ labels: own }))).code).toBe(403);
    expect((await ask(path, 'operator', { method: 'DELETE' })).code).toBe(403);
    expect((await ask(path)).code).toBe(200); // reads are not seen
    api.admin.merge(path, { metadata: { labels: own } });
    expect((await apply(path, pullSecret())).code).toBe(200);
  });

  it('is asked of dry runs, too, and can be taken away', async () => {
    api.admin.create(pullSecret());
    const path = `${secrets}/ecr-pull`;
    const dryRun = () =>
      ask(`${path}?fieldManager=probe&force=true&dryRun=All`, 'operator', {
        ...{ method: 'PATCH', headers: { 'content-type': 'application/apply-patch+yaml' } },
        body: JSON.stringify(pullSecret({ labels: { a: 'b' } })),
      });
    expect((await dryRun()).code).toBe(403);
    api.admission = () => null;
    expect((await dryRun()).code).toBe(200);
    expect(api.admin.get(path).metadata.labels).toBeUndefined();
    expect(api.audit.writes({ user: operator.name })).toEqual([]);
  });
});

describe('what goes wrong', () => {
  it('a fault is of the requests that are chosen, as long as it is set', async () => {
    api.faults = ({ resource, verb }) => (resource === 'secrets' && verb === 'get' ? tooManyRequests(7) : null);
    const busy = await ask(`${secrets}/ecr-pull`);
    expect([busy.code, busy.headers.get('retry-after')]).toEqual([429, '7']);
    expect((await ask('/api/v1/namespaces')).code).toBe(200);
    api.faults = () => htmlPage(200);
    expect((await ask('/api/v1/namespaces')).headers.get('content-type')).toBe('text/html');
    api.faults = () => null;
    expect((await ask('/api/v1/namespaces')).code).toBe(200);
  });

  it('a connection is cut before the write or after it', async () => {
    api.faults = () => ({ kind: 'cut' });
    await expect(apply(`${secrets}/ecr-pull`, pullSecret())).rejects.toThrow('fetch failed');
    expect(api.admin.find(`${secrets}/ecr-pull`)).toBeNull();
    api.faults = () => ({ kind: 'cutAfter' });
    await expect(apply(`${secrets}/ecr-pull`, pullSecret())).rejects.toThrow('fetch failed');
    expect(api.admin.find(`${secrets}/ecr-pull`)).not.toBeNull();
  });

  it('a request is held until it is let go', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    api.faults = () => ({ kind: 'hold', until: promise });
    const answer = apply(`${secrets}/ecr-pull`, pullSecret());
    await expect.poll(() => api.held).toBe(1);
    expect(api.admin.find(`${secrets}/ecr-pull`)).toBeNull();
    resolve();
    expect((await answer).code).toBe(201);
  });

  it('a server that is stopped comes back on its port with its objects', async () => {
    const { port } = api;
    await api.stop();
    await expect(ask('/api/v1/namespaces')).rejects.toThrow('fetch failed');
    await api.restart();
    expect(api.port).toBe(port);
    expect((await ask('/api/v1/namespaces')).code).toBe(200);
  });

  it('its clock can be another', async () => {
    api.dateOffsetMs = 3_600_000;
    const { headers } = await ask('/readyz', null);
    expect(Date.parse(headers.get('date') ?? '') - Date.now()).toBeGreaterThan(3_590_000);
  });
});

it('the audit knows every request, and what it came to', async () => {
  api.audit.clear();
  await apply(`${secrets}/ecr-pull`, pullSecret());
  await apply(`${secrets}/other`, pullSecret({ name: 'other' }));
  await ask('/api/v1/secrets?fieldSelector=metadata.name%3Decr-pull');
  expect(api.audit.entries).toMatchObject([
    { user: operator.name, verb: 'patch', patch: 'apply', resource: 'secrets', namespace: 'team', code: 201 },
    { verb: 'patch', name: 'other', code: 403 },
    { verb: 'list', name: 'ecr-pull', namespace: '', code: 200 },
  ]);
  expect(api.audit.fanOutWrites({ code: 201 })).toHaveLength(1);
});

it('a path that leads nowhere: a Status within a group that is served, plain text elsewhere', async () => {
  expect((await ask('/api/v1/oddities', adminToken)).body.reason).toBe('NotFound');
  expect((await ask('/apis/odd.io/v1/things', adminToken)).body.message).toBe('404 page not found\n');
});

it('speaks HTTPS, if told to', async () => {
  const authority = createAuthority();
  await using secure = await ApiServer.start({ tls: authority.issue(loopbackNames()) });
  expect(secure.url).toMatch(/^https:/);
});
