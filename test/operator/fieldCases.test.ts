import { describe, expect, it } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
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
});
