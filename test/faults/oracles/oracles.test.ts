import { describe, expect, it } from 'vitest';
import type { SeenRequest } from '../../cluster/apiServerProxy.ts';
import type { AuditEvent } from '../../cluster/auditLog.ts';
import type { KubeObject } from '../../cluster/kubeApi.ts';
import { stepsOf } from './authorship.ts';
import { countsOf, moreThan } from './counts.ts';
import { foreignChanges, strangeWrites } from './foreign.ts';
import type { Version } from './history.ts';
import { needsLease, writesWithoutLease } from './leadership.ts';
import { badEndings, type End } from './endings.ts';
import { delayed, greedy, hasty, overdue } from './manners.ts';
import { badTokens, doubled, madeAnew, whyUnlike } from './ours.ts';
import { leaks } from './secrecy.ts';

// Each oracle sees what it is there for, and nothing where all is well.

const name = 'ecr-pull';
let clock = 0;

function version(collection: string, type: Version['type'], object: object, rv: number, time = (clock += 10)): Version {
  const { metadata = {}, ...rest } = object as { metadata?: object };
  const whole = {
    metadata: { name, namespace: 'team', uid: 'u1', resourceVersion: String(rv), ...metadata },
    ...rest,
  } as KubeObject;
  return { collection, key: `team/${whole.metadata.name}`, type, object: whole, resourceVersion: rv, time };
}

function wrote(resource: string, rv: number, o: { verb?: string; code?: number; name?: string; uid?: string } = {}) {
  return {
    verb: o.verb ?? 'patch',
    objectRef: { resource, namespace: 'team', name: o.name ?? name },
    responseStatus: { code: o.code ?? 200 },
    responseObject: { metadata: { resourceVersion: String(rv), uid: o.uid ?? 'u1' } },
    requestURI: '',
  } as unknown as AuditEvent;
}

const ours = { labels: { 'app.kubernetes.io/managed-by': 'ecr-pull-secrets' } };
const config = (auths: object) => ({
  data: { '.dockerconfigjson': Buffer.from(JSON.stringify({ auths })).toString('base64') },
});
const account = (entries: string[], metadata: object = {}) => ({
  metadata: { name: 'default', ...metadata },
  imagePullSecrets: entries.map((entry) => ({ name: entry })),
});
const ofAccount = { name: 'default' };

describe('1: what is foreign', () => {
  const changes = (before: object, after: object, collection = 'serviceaccounts') =>
    foreignChanges(
      stepsOf(
        [version(collection, 'ADDED', before, 1), version(collection, 'MODIFIED', after, 2)],
        [wrote(collection, 2, collection === 'serviceaccounts' ? ofAccount : {})],
      ),
      name,
    );

  it.each<[string, object, object, number]>([
    ['our entry comes', account(['own']), account(['own', name]), 0],
    ['our entry goes', account(['own', name]), account(['own']), 0],
    ['a foreign entry is lost', account(['own']), account([name]), 1],
    ['a foreign entry is doubled', account(['own']), account(['own', 'own', name]), 1],
    ['the order changes', account(['a', 'b']), account(['b', 'a', name]), 1],
    ['a label is lost', account([], { labels: { a: 'b' } }), account([name]), 1],
  ])('of a ServiceAccount: %s', (_, before, after, count) => {
    expect(changes(before, after)).toHaveLength(count);
  });

  it.each<[string, object, object, number]>([
    ['a foreign Secret is taken', { metadata: {} }, { metadata: ours }, 1],
    ['ours is refreshed', { metadata: ours, ...config({}) }, { metadata: ours }, 0],
    [
      'somebody’s annotation on ours is lost',
      { metadata: { ...ours, annotations: { a: 'b' } } },
      { metadata: ours },
      1,
    ],
    ['a finalizer on ours is lost', { metadata: { ...ours, finalizers: ['a/b'] } }, { metadata: ours }, 1],
  ])('of Secrets: %s', (_, before, after, count) => {
    expect(changes(before, after, 'secrets')).toHaveLength(count);
  });

  it('a foreign Secret deleted, and one of another name made', () => {
    const versions = [
      version('secrets', 'ADDED', {}, 1),
      version('secrets', 'DELETED', {}, 2),
      version('secrets', 'ADDED', { metadata: { name: 'other' } }, 3),
    ];
    const audit = [wrote('secrets', 0, { verb: 'delete' }), wrote('secrets', 3, { name: 'other', code: 201 })];
    expect(foreignChanges(stepsOf(versions, audit), name)).toHaveLength(2);
  });

  it('a write to what is none of its business, though it is refused', () => {
    const count = (verb: string, requestURI: string, objectRef: object) =>
      strangeWrites([{ verb, requestURI, objectRef } as unknown as AuditEvent], { secretName: name, namespace: 'ops' })
        .length;
    const status = { apiGroup: 'ecr.pullsecrets.io', resource: 'clusterecrpullsecrets', name: 'production' };
    const lease = { apiGroup: 'coordination.k8s.io', resource: 'leases', namespace: 'ops', name: 'ecr-pull-secrets' };
    const review = { apiGroup: 'authorization.k8s.io', resource: 'selfsubjectaccessreviews' };
    const store = { resource: 'secrets', namespace: 'ops', name: 'ecr-pull-tokens' };
    for (const own of [
      { resource: 'secrets', namespace: 'team', name },
      { resource: 'serviceaccounts', namespace: 'team', name: 'default' },
      { apiGroup: 'events.k8s.io', resource: 'events', namespace: 'team' },
      { ...status, subresource: 'status' },
      ...[lease, store],
    ]) {
      expect(count('patch', '/x', own), JSON.stringify(own)).toBe(0);
    }
    expect(count('create', '/x', review)).toBe(0);
    for (const other of [
      { resource: 'secrets', namespace: 'team', name: 'other' },
      { resource: 'serviceaccounts', subresource: 'token', namespace: 'team', name: 'default' },
      { resource: 'configmaps', namespace: 'team', name },
      { resource: 'namespaces', name: 'team' },
      ...[status, { ...lease, namespace: 'team' }, { ...store, namespace: 'team' }, {}],
    ]) {
      expect(count('patch', '/x', other), JSON.stringify(other)).toBe(1);
      expect(count('patch', '/x?dryRun=All', other)).toBe(0);
    }
    expect(count('delete', '/x', { resource: 'serviceaccounts', namespace: 'team', name: 'default' })).toBe(1);
  });

  it('what others do is theirs', () => {
    const versions = [version('secrets', 'ADDED', {}, 1), version('secrets', 'DELETED', {}, 2)];
    expect(foreignChanges(stepsOf(versions, []), name)).toEqual([]);
  });
});

describe('2: what is ours', () => {
  it('twice on a ServiceAccount', () => {
    expect(doubled([version('serviceaccounts', 'ADDED', account([name, 'own', name]), 1)], name)).toHaveLength(1);
    expect(doubled([version('serviceaccounts', 'ADDED', account([name, 'own']), 1)], name)).toEqual([]);
  });

  it('deleted by us and made anew; deleted by others it may come back', () => {
    const versions = [
      version('secrets', 'ADDED', { metadata: ours }, 1),
      version('secrets', 'DELETED', { metadata: ours }, 2),
      version('secrets', 'ADDED', { metadata: { ...ours, uid: 'u2' } }, 3),
    ];
    const made = wrote('secrets', 3, { code: 201 });
    expect(madeAnew(stepsOf(versions, [wrote('secrets', 0, { verb: 'delete' }), made]), name)).toHaveLength(1);
    expect(madeAnew(stepsOf(versions, [made]), name)).toEqual([]);
    expect(madeAnew(stepsOf(versions, [wrote('secrets', 0, { verb: 'delete' })]), name)).toEqual([]); // a clone
  });
});

it('3: tokens', () => {
  const tokens = new Map([
    ['good', { host: 'h', issuedAt: 1, expiresAt: 1e9 }],
    ['better', { host: 'h', issuedAt: 2, expiresAt: 1e9 }],
    ['dead', { host: 'h', issuedAt: 3, expiresAt: 1 }],
    ['other', { host: 'i', issuedAt: 4, expiresAt: 1e9 }],
  ]);
  const told = (...auths: string[]) => {
    const versions = auths.map((auth, i) =>
      version('secrets', i === 0 ? 'ADDED' : 'MODIFIED', { metadata: ours, ...config({ h: { auth } }) }, i + 1),
    );
    const audit = versions.map(({ resourceVersion }) => wrote('secrets', resourceVersion));
    return bad(stepsOf(versions, audit));
  };
  const bad = (steps: Parameters<typeof badTokens>[0], isWanted = true) =>
    badTokens(steps, { tokenOf: (auth) => tokens.get(auth) ?? null, isWanted: () => isWanted, secretName: name })
      .length;
  expect([told('good', 'better'), told('good', 'good')]).toEqual([0, 0]);
  expect([told('dead'), told('other'), told('unknown'), told('better', 'good')]).toEqual([1, 1, 1, 1]);
  const dropped = (auth: string, o: { isOurs?: boolean; isWanted?: boolean; type?: Version['type'] } = {}) => {
    const before = version('secrets', 'ADDED', { metadata: ours, ...config({ h: { auth } }) }, 1);
    const after = version('secrets', o.type ?? 'MODIFIED', { metadata: ours, ...config({}) }, 2);
    return bad([{ before, after, isOurs: o.isOurs ?? true }], o.isWanted);
  };
  expect(dropped('good')).toBe(1);
  expect([
    dropped('dead'),
    dropped('unknown'),
    dropped('good', { isOurs: false }),
    dropped('good', { isWanted: false }),
    dropped('good', { type: 'DELETED' }),
  ]).toEqual([0, 0, 0, 0, 0]);
});

it('4: a Secret that is unlike the one of a night without faults', () => {
  const marks = {
    labels: { ...ours.labels, 'velero.io/exclude-from-backup': 'true', theirs: 'x' },
    annotations: { 'ecr.pullsecrets.io/hosts': '{}', 'ecr.pullsecrets.io/service-accounts': '[]' },
  };
  const good = { metadata: marks, type: 'kubernetes.io/dockerconfigjson', ...config({ h: { auth: 'new' } }) };
  const why = (o: object = {}) => whyUnlike({ ...good, ...o } as unknown as KubeObject, { host: 'h', auth: 'new' });
  expect(why()).toBeNull();
  for (const o of [
    { type: 'Opaque' },
    config({}),
    config({ h: { auth: 'old' } }),
    config({ h: { auth: 'new' }, i: { auth: 'new' } }),
    { metadata: { ...marks, labels: ours.labels } },
    { metadata: { ...marks, labels: {} } },
    { metadata: { ...marks, annotations: { 'ecr.pullsecrets.io/hosts': '{}' } } },
  ]) {
    expect(why(o), JSON.stringify(o)).not.toBeNull();
  }
});

it('5: creates and deletes', () => {
  const made = wrote('secrets', 1, { code: 201 });
  const gone = wrote('secrets', 1, { verb: 'delete' });
  expect(moreThan(countsOf([made]), countsOf([made, wrote('secrets', 2)]))).toEqual([]);
  expect(moreThan(countsOf([made]), countsOf([made, gone, made]))).toHaveLength(2);
});

it('6: writes without the lease', () => {
  const lease = (holder: string, time: number) =>
    version(
      'leases',
      'MODIFIED',
      { metadata: { name: 'ecr-pull-secrets' }, spec: { holderIdentity: holder } },
      time,
      time,
    );
  const told = (holder: string, time: number) =>
    writesWithoutLease([{ holder, path: '/x', time }], [lease('a', 1000), lease('a', 3000), lease('b', 30_000)], [])
      .length;
  expect([told('a', 1100), told('a', 12_900), told('b', 30_100)]).toEqual([0, 0, 0]);
  expect([told('b', 5000), told('a', 14_000), told('a', 31_000)]).toEqual([1, 1, 1]);
  // Robbed of it, or after it was given up.
  const after = (taken: Version[], answeredAt: number) =>
    writesWithoutLease(
      [{ holder: 'a', path: '/x', time: 8_000 }],
      [lease('a', 3_000), ...taken],
      [{ holder: 'a', askedAt: answeredAt - 10, answeredAt }],
    ).length;
  const taken = [lease('b', 5_000), lease('b', 7_000)];
  expect([after(taken, 4_900), after(taken, 7_900), after(taken, 5_900)]).toEqual([0, 0, 1]);
  expect(after([lease('', 4_000), lease('b', 5_000)], 4_900)).toBe(1);
});

it('6: the status and the tokens need the lease, too; a dry run, an event and the lease itself do not', () => {
  const needs = (path: string, method = 'PATCH') => needsLease({ method, path });
  const team = '/api/v1/namespaces/team';
  const status = '/apis/ecr.pullsecrets.io/v1alpha1/clusterecrpullsecrets/production/status';
  for (const path of [`${team}/secrets/ecr-pull?force=true`, `${team}/serviceaccounts/default`, `${status}?x`]) {
    expect(needs(path), path).toBe(true);
    expect(needs(path, 'GET'), path).toBe(false);
  }
  expect([
    needs('/api/v1/namespaces/ops/secrets/ecr-pull-tokens'),
    needs(`${team}/secrets/ecr-pull`, 'DELETE'),
  ]).toEqual([true, true]);
  expect([needs(`${team}/secrets/ecr-pull?dryRun=All`), needs('/apis/events.k8s.io/v1/namespaces/x/events')]).toEqual([
    false,
    false,
  ]);
});

it('7: secrets in outputs, in each form and in pieces', () => {
  const secret = 'AWS:Zm9vYmFyYmF6cXV4/with+signs=and-more-of-it';
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const found = (text: string) => leaks(new Map([['log', text]]), [secret]).length;
  for (const text of [
    secret,
    base64(secret),
    base64(`user:${secret}`),
    base64(`a${secret}`),
    encodeURIComponent(secret),
  ]) {
    expect(found(`before ${text} after`), text).toBe(1);
  }
  for (let at = 0; at + 16 <= secret.length; at++) expect(found(`a piece ${secret.slice(at, at + 16)} of it`)).toBe(1);
  expect(found(`too short ${secret.slice(3, 18)} for one`)).toBe(0);
  expect(found('nothing of it')).toBe(0);
});

describe('what reaches the API server', () => {
  const path = '/api/v1/namespaces/team/secrets/ecr-pull?fieldManager=x';
  const asked = (time: number, o: Partial<SeenRequest> = {}): SeenRequest => ({
    ...{ method: 'PATCH', path, isWatch: false, accept: '', time, endedAt: time + 10, status: 503, retryAfter: null },
    ...o,
  });
  const every = (ms: number, o: Partial<SeenRequest> = {}) =>
    Array.from({ length: 12 }, (_, index) => asked(index * ms, o));

  it('12: lasts no longer than a lease is renewed, unless the process stood still', () => {
    const late = (o: Partial<SeenRequest>, stills: { from: number; to: number }[] = []) =>
      overdue([asked(0, o)], { now: 15_000, stills }).length;
    expect([late({ endedAt: 9_000 }), late({ endedAt: 12_000, isWatch: true })]).toEqual([0, 0]);
    expect([late({ endedAt: 12_000 }), late({ endedAt: null })]).toEqual([1, 1]);
    expect([late({ endedAt: null }, [{ from: 1_000, to: 14_000 }]), late({}, [{ from: 0, to: Infinity }])]).toEqual([
      0, 0,
    ]);
  });

  it('11: comes again no sooner than it was told', () => {
    const two = (gapMs: number, o: Partial<SeenRequest> = {}) =>
      hasty([asked(0, { status: 429, retryAfter: '3', ...o }), asked(10 + gapMs)]).length;
    expect([two(3_000), two(1_000, { status: 200 }), two(1_000, { path: '/other' })]).toEqual([0, 0, 0]);
    expect([two(1_000), two(1_000, { method: 'PATCH', status: 503 })]).toEqual([1, 1]);
    const date = { retryAfter: new Date(5_000).toUTCString() };
    expect([two(1_000, date), two(5_000, date)]).toEqual([1, 0]);
  });

  it('11: comes once in five seconds where it goes on being refused', () => {
    expect(hasty(every(2_000)).length).toBeGreaterThan(0);
    expect(hasty(every(5_000))).toEqual([]);
    for (const o of [{ status: 200 }, { path: '/apis/events.k8s.io/v1/namespaces/x/events' }]) {
      expect(hasty(every(2_000, o))).toEqual([]);
    }
  });

  it('11: the same where no answer comes, and for lists and watches', () => {
    const list = { method: 'GET', path: '/api/v1/namespaces?limit=500' };
    const watch = { method: 'GET', path: '/api/v1/namespaces?watch=true', isWatch: true };
    for (const o of [{ status: null }, list, watch, { ...watch, status: null }]) {
      expect(hasty(every(2_000, o)).length, JSON.stringify(o)).toBeGreaterThan(0);
      expect(hasty(every(6_400, o))).toEqual([]);
    }
    for (const o of [
      { ...watch, status: null, endedAt: null },
      { ...list, status: 404 },
    ]) {
      expect(hasty(every(2_000, o))).toEqual([]);
    }
    const failing = [0, 6_000, 12_000, 18_000].map((time) => asked(time, list));
    expect(hasty([...failing, asked(19_000, { ...list, status: 200 })])).toEqual([]); // somebody told that it is back
  });

  it('11: a lost one is sent once more at once, and none waits on when the server is back', () => {
    const lost = (at: number) => asked(at, { status: null });
    const twice = every(6_000).flatMap(({ time }) => [lost(time), lost(time + 20)]);
    expect(hasty(twice)).toEqual([]);
    expect(hasty(every(6_000).flatMap(({ time }) => [lost(time), lost(time + 20), lost(time + 40)]))).not.toEqual([]);
    const failing = [0, 6_000, 12_000, 18_000].map(lost);
    const lease = (at: number) => asked(at, { method: 'PUT', path: '/x/leases/y', status: 200 });
    expect(hasty([...failing, asked(19_500)])).toHaveLength(1);
    expect(hasty([...failing, lease(19_000), asked(19_500), asked(20_500), asked(22_000)])).toEqual([]);
    const leases = Array.from({ length: 11 }, (_, i) => lease(i * 2_000 - 1_000)); // it was never away
    expect(hasty([...failing, ...leases, asked(19_500)])).toHaveLength(1);
  });

  it('11: looks into a conflict at once, but not for ever', () => {
    const account = { path: '/api/v1/namespaces/team/serviceaccounts/default' };
    const lost = [asked(15_000, { ...account, status: 422 }), asked(15_050, account)];
    const refused = [0, 5_000, 10_000].map((time) => asked(time, account));
    expect(hasty([...refused, ...lost])).toEqual([]);
    for (const o of [{ status: 409 }, { ...account, status: 422 }]) {
      expect(hasty(every(2_000, o)).length).toBeGreaterThan(0);
    }
  });
});

it('9: a process that ends by itself, or says that something is wrong', () => {
  const told = (output: string, end: End = null) => badEndings({ name: 'operator', output, end }).length;
  const log = (level: string) => JSON.stringify({ level, message: 'x' });
  expect([told(log('warn')), told('', { code: 0, signal: null }), told('', { code: null, signal: 'SIGKILL' })]).toEqual(
    [0, 0, 0],
  );
  expect([told(log('error')), told('ecr-pull-secrets: unexpected TypeError: this is a bug')]).toEqual([1, 1]);
  expect([told('', { code: 1, signal: null }), told('', { code: null, signal: 'SIGABRT' })]).toEqual([1, 1]);
});

it('9: an event loop that stands still is seen, but at the start, and where the process was stopped', () => {
  const told = (o: { atMs?: number; lagMs: number }, stills: { from: number; to: number }[] = []) =>
    delayed([{ atMs: 20_000, ...o }], { begunAt: 1_000_000, stills }).length;
  expect([told({ lagMs: 500 }), told({ lagMs: 5_000 }), told({ lagMs: 5_000, atMs: 3_000 })]).toEqual([0, 1, 0]);
  const still = (to: number) => [{ from: to - 5_000, to }];
  expect([told({ lagMs: 5_000 }, still(1_019_000)), told({ lagMs: 8_000 }, still(1_019_000))]).toEqual([0, 1]);
  expect([told({ lagMs: 5_000 }, still(1_010_000)), told({ lagMs: 5_000 }, still(1_030_000))]).toEqual([1, 1]);
});

it('9: memory that was given back is seen as well, but not what was before', () => {
  const held = (...rss: number[]) =>
    greedy(
      rss.map((one, second) => ({ atMs: second * 1_000, rss: one })),
      { begunAt: 0, since: 1_000, mostBytes: 100 },
    ).length;
  expect([held(200, 100, 90), held(0, 101, 90)]).toEqual([0, 1]);
});
