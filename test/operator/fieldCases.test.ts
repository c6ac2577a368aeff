import { describe, expect, it } from 'vitest';
import { annotations, resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { host, startWorld } from './world.ts';

// Reports of people who do this job with other tools.

describe.concurrent('in the field', () => {
  it('ServiceAccounts that are named later get the entry, and lose it when they are named no more; a user’s own stays', async () => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    const create = (name: string, more: object = {}) =>
      w.admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: 'team-a' }, ...more });
    create('users', { imagePullSecrets: [{ name: 'ecr-pull' }] });
    create('worker');
    await w.operator({ args: ['--removal-delay=50ms'] });
    const has = (name: string) => w.entries('team-a', name).includes('ecr-pull');
    w.apply({ serviceAccounts: { names: ['app-*'] } });
    await w.ready();
    create('app-1');
    await eventually('app-1 has it', () => has('app-1'));
    expect([has('worker'), has('default')]).toEqual([false, false]);
    w.apply({ serviceAccounts: { names: ['app-*', 'worker', 'default'] } });
    await eventually('the others have it', () => has('worker') && has('default'));
    w.apply({ serviceAccounts: { names: ['app-*'] } });
    await eventually('they have it no more', () => !has('worker') && !has('default'));
    expect([has('app-1'), has('users')]).toEqual([true, true]);
  });

  it('half of the namespaces are deselected: no entry without a Secret is left, and the others keep both', async () => {
    const names = Array.from({ length: 10 }, (_, i) => `team-${i}`);
    await using w = await startWorld({ namespaces: names });
    await w.operator({ args: ['--removal-delay=50ms'] });
    w.apply({
      namespaces: { selector: { matchExpressions: [{ key: 'ecr', operator: 'DoesNotExist' }] }, names: ['team-*'] },
    });
    await w.served(...names);
    const out = names.slice(0, 5);
    for (const name of out) w.admin.merge(`/api/v1/namespaces/${name}`, { metadata: { labels: { ecr: 'off' } } });
    await eventually('they are empty', () => out.every((name) => w.secret(name) === null));
    expect(out.flatMap((name) => w.entries(name))).toEqual([]);
    expect(names.slice(5).every((name) => w.isServed(name))).toBe(true);
  });

  it('keys of one account, a registry of another: the token stands under the host that was asked for alone', async () => {
    await using w = await startWorld({ namespaces: ['team-a'], aws: { proxyAccount: '111111111111' } });
    await w.operator();
    w.apply();
    await w.served('team-a');
    expect(Object.keys(w.auths('team-a'))).toEqual([host]);
    expect(await w.pull('team-a')).toMatchObject({ ok: true });
  });

  it('an owner that somebody sets on ours is left there; when garbage collection takes the Secret, it comes back without', async () => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    await w.operator();
    w.apply();
    await w.served('team-a');
    await w.ready();
    const before = w.secret('team-a')?.['data'];
    const path = '/api/v1/namespaces/team-a/secrets/ecr-pull';
    const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'x', uid: 'u', controller: true };
    w.admin.merge(path, { metadata: { ownerReferences: [owner] } }, 'other');
    await w.quiet();
    expect(w.secret('team-a')?.metadata).toMatchObject({ ownerReferences: [owner] });
    w.admin.delete(path);
    await eventually('it is back', () => w.secret('team-a') !== null);
    expect(w.secret('team-a')?.['data']).toEqual(before);
    expect(w.secret('team-a')?.metadata).not.toHaveProperty('ownerReferences');
  });

  it('a failure leaves the status with its cause, also over a restart', async () => {
    await using w = await startWorld({ namespaces: ['team-a', 'team-b'] });
    const foreign = { metadata: { name: 'ecr-pull', namespace: 'team-b' }, type: 'Opaque', data: {} };
    w.admin.create({ apiVersion: 'v1', kind: 'Secret', ...foreign });
    const first = await w.operator();
    w.apply();
    await eventually('it is told', () => w.condition('Blocked') !== undefined);
    await first.stop();
    w.admin.delete('/api/v1/namespaces/team-b/secrets/ecr-pull');
    const second = await w.operator();
    await w.served('team-b');
    await eventually('it is told no more', () => w.condition('Blocked') === undefined);
    expect(w.resource().status?.failures).toEqual([]);
    const blocked = 'ecr_pull_secrets_namespaces{resource="production",state="blocked"}';
    await eventually('nor counted', async () => (await second.metric(blocked)) === 0);
  });

  it('others who set up a new ServiceAccount at the same time lose nothing, and their conflicts are told nowhere', async () => {
    await using w = await startWorld({ namespaces: [] });
    const operator = await w.operator();
    w.apply();
    await w.ready();
    const names = Array.from({ length: 20 }, (_, i) => `team-${i}`);
    const labels = ['a', 'b', 'c', 'd', 'e'];
    const left = new Map(names.map((name) => [name, [...labels]]));
    const path = (name: string) => `/api/v1/namespaces/${name}/serviceaccounts/default`;
    const { operatorUser: user } = w.sandbox;
    // Whenever our patch arrives, somebody else has just been there: five times.
    w.api.faults = ({ user: who, resource, verb, namespace }) => {
      const label = who === user && resource === 'serviceaccounts' && verb === 'patch' && left.get(namespace)?.pop();
      if (label) w.admin.merge(path(namespace), { metadata: { labels: { [label]: 'on' } } }, 'other');
      return null;
    };
    for (const name of names) w.createNamespace(name);
    await w.served(...names);
    await w.ready();
    expect(w.api.audit.of({ user, resource: 'serviceaccounts', code: 422 })).toHaveLength(100);
    const kept = names.map((name) => Object.keys(w.admin.get(path(name)).metadata.labels ?? {}).sort());
    expect(kept).toEqual(names.map(() => labels));
    expect(names.flatMap((name) => w.entries(name))).toEqual(names.map(() => 'ecr-pull'));
    expect(w.resource().status?.failures).toEqual([]);
    expect(operator.lines().filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });

  it('a quota that is used up is told for its namespace with its words, the others are served, and its end is noticed', async () => {
    const clock = fastClock(8);
    await using w = await startWorld({ namespaces: ['team-a', 'team-b'], now: () => clock.now() });
    const message =
      'secrets "ecr-pull" is forbidden: exceeded quota: few-secrets, requested: count/secrets=1, used: count/secrets=3, limited: count/secrets=3';
    const body = {
      kind: 'Status',
      code: 403,
      reason: 'Forbidden',
      message,
      details: { name: 'ecr-pull', kind: 'secrets' },
    };
    w.api.faults = ({ resource, patch, namespace, dryRun }) =>
      resource === 'secrets' && patch === 'apply' && namespace === 'team-b' && !dryRun
        ? { kind: 'answer', status: 403, body }
        : null;
    await w.operator({ clock });
    w.apply();
    await w.served('team-a');
    await eventually('it is told', () => w.condition('Ready')?.reason === 'NamespacesFailed');
    expect(w.resource().status?.failures).toMatchObject([
      {
        namespace: 'team-b',
        message: expect.stringMatching(/secrets team-b\/ecr-pull: 403 .*exceeded quota: few-secrets/) as string,
      },
    ]);
    w.api.faults = () => null;
    await w.served('team-b');
    await w.ready();
  });

  it('a Secret with a label that looks like ours is still foreign, also to a refresh; with the very label it is taken over', async () => {
    const clock = fastClock(10);
    const foreign = {
      'team-none': {},
      'team-helm': { 'app.kubernetes.io/managed-by': 'Helm' },
      'team-capitals': { 'app.kubernetes.io/managed-by': 'ECR-pull-secrets' },
    };
    const names = Object.keys(foreign);
    await using w = await startWorld({ namespaces: [...names, 'team-a', 'team-given'], now: () => clock.now() });
    const given = { 'app.kubernetes.io/managed-by': 'ecr-pull-secrets' };
    for (const [namespace, labels] of Object.entries({ ...foreign, 'team-given': given })) {
      w.admin.create({
        ...{ apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/dockerconfigjson' },
        metadata: { name: 'ecr-pull', namespace, labels },
        data: { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') },
      });
    }
    const before = w.published(...names);
    await w.operator({ clock });
    w.apply();
    await w.served('team-a', 'team-given');
    const metadata = { annotations: { [annotations.refreshRequestedAt]: 'now' } };
    w.admin.merge(`${resourcesPath}/production`, { metadata });
    await eventually('it was refreshed', () => w.tokenCalls() > 1);
    await eventually('everywhere', () => w.auths('team-given')[host]?.auth === w.sandbox.aws.tokens.last?.auth);
    await w.quiet();
    expect(w.published(...names)).toEqual(before);
    expect(w.condition('Blocked')?.message).toMatch(/^3 of 5 namespaces: /);
  });

  it('a policy that is missing is told, and told no more when it is there', async () => {
    const clock = fastClock(30);
    await using w = await startWorld({ namespaces: ['team-a'], now: () => clock.now() });
    const { admission } = w.api;
    w.api.admission = () => null;
    const operator = await w.operator({ clock });
    w.apply();
    await eventually('it is told', () => w.condition('Unguarded')?.status === 'True');
    expect(w.condition('Unguarded')?.message).toMatch(
      /ValidatingAdmissionPolicy ecr-pull-secrets .*install the policy/,
    );
    expect(await operator.metric('ecr_pull_secrets_policy_present')).toBe(0);
    w.api.admission = admission;
    await eventually('it is told no more', () => w.condition('Unguarded') === undefined);
    expect(await operator.metric('ecr_pull_secrets_policy_present')).toBe(1);
  });

  it('an API server that is away at the start is not told as a policy that is missing', async () => {
    const clock = fastClock(30);
    await using w = await startWorld({ namespaces: ['team-a'], now: () => clock.now() });
    await w.api.stop();
    const operator = await w.operator({ clock });
    expect(await operator.metric('ecr_pull_secrets_policy_present')).toBe(1);
    w.apply();
    await w.api.restart();
    await w.served('team-a');
    await w.ready();
    expect(w.condition('Unguarded')).toBeUndefined();
    expect(await operator.metric('ecr_pull_secrets_policy_present')).toBe(1);
    expect(operator.lines().filter(({ message }) => message.includes('is not in force'))).toEqual([]);
  });
});
