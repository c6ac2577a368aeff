import { describe, expect, it } from 'vitest';
import { annotations, labels } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { startWorld, type World } from './world.ts';

describe.concurrent('repair', () => {
  const path = '/api/v1/namespaces/team-a/secrets/ecr-pull';
  const account = '/api/v1/namespaces/team-a/serviceaccounts/default';

  it.each<[string, (w: World) => void]>([
    ['data was edited', ({ admin }) => admin.merge(path, { data: { '.dockerconfigjson': 'e30=' } }, 'other')],
    ['deleted', ({ admin }) => admin.delete(path)],
    ['its label was removed', ({ admin }) => admin.merge(path, { metadata: { labels: { [labels.managedBy]: null } } })],
    [
      'its annotation was removed',
      ({ admin }) => admin.merge(path, { metadata: { annotations: { [annotations.hosts]: null } } }),
    ],
    ['its managedFields were stripped', ({ admin }) => admin.merge(path, { metadata: { managedFields: [{}] } })],
    ['was made immutable', ({ admin }) => admin.merge(path, { immutable: true }, 'other')],
    ['was said not to be immutable', ({ admin }) => admin.merge(path, { immutable: false }, 'other')],
    ['the entry was dropped', ({ admin }) => admin.merge(account, { imagePullSecrets: [{ name: 'own' }] }, 'other')],
    ['the ServiceAccount was deleted', ({ admin }) => admin.delete(account)],
  ])('the Secret or its entry is right again: %s', async (what, damage) => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    await w.operator();
    w.apply();
    await w.served('team-a');
    await w.ready();
    const before = w.secret('team-a');
    const mark = w.api.audit.mark();
    damage(w);
    await eventually('it is right again', () => {
      const secret = w.secret('team-a');
      expect(secret?.['immutable']).not.toBe(true);
      expect(secret?.['data']).toEqual(before?.['data']);
      expect(secret?.metadata.labels).toEqual(before?.metadata.labels);
      expect(secret?.metadata.annotations).toEqual(before?.metadata.annotations);
      const ours = secret?.metadata.managedFields?.find(({ operation }) => operation === 'Apply');
      expect(ours?.fieldsV1).toEqual(before?.metadata.managedFields?.[0]?.fieldsV1);
      return w.entries('team-a').filter((name) => name === 'ecr-pull').length === 1;
    });
    const foreign = what === 'the entry was dropped' ? ['own'] : [];
    expect(w.entries('team-a')).toEqual([...foreign, 'ecr-pull']);
    const since = w.api.audit.since(mark);
    await w.quiet();
    const { uid } = w.secret('team-a')?.metadata ?? {};
    expect(uid === before?.metadata.uid).toBe(what !== 'deleted' && what !== 'was made immutable');
    // Without the annotation nobody knows what is in it: only then it is read.
    const reads = since.of({ user: w.sandbox.operatorUser, resource: 'secrets', verb: 'get' });
    expect(reads).toHaveLength(what === 'its annotation was removed' ? 1 : 0);
    expect(w.tokenCalls()).toBe(1);
  });

  it.each(['secrets', 'serviceaccounts'])(
    'one of %s that is refused is told as a failure, and as a repair when it is done',
    async (what) => {
      const clock = fastClock(20);
      await using w = await startWorld({ namespaces: ['team-a'], now: () => clock.now() });
      await w.operator({ clock });
      w.apply();
      await w.served('team-a');
      await w.ready();
      const body = {
        kind: 'Status',
        code: 403,
        reason: 'Forbidden',
        message: 'admission webhook "x" denied the request: no',
      };
      let tries = 0;
      w.api.faults = ({ resource, verb, dryRun, user }) => {
        if (resource !== what || verb !== 'patch' || dryRun || user !== w.sandbox.operatorUser) return null;
        tries += 1;
        return { kind: 'answer', status: 403, body };
      };
      if (what === 'secrets') w.admin.delete(path);
      else w.admin.merge(account, { imagePullSecrets: [{ name: 'own' }] }, 'other');
      const restored = () =>
        w.admin.list('/apis/events.k8s.io/v1/namespaces/team-a/events').map((event) => String(event['note']));
      await eventually('it is tried five times', () => tries >= 5, 10_000);
      expect(restored()).toEqual([]);
      expect(w.condition('Ready')?.reason).toBe('NamespacesFailed');
      w.api.faults = () => null;
      await w.served('team-a');
      await eventually('it is told', () => restored().length > 0);
      expect(restored()).toEqual([expect.not.stringContaining('times lately')]);
    },
  );

  it.each([
    ['refused', 403, {}],
    ['to wait by a Retry-After', 429, { 'retry-after': '20' }],
  ])('one that is %s is not tried at each event of its namespace', async (_, status, headers) => {
    const speed = 20;
    const clock = fastClock(speed);
    await using w = await startWorld({ namespaces: ['team-a'], now: () => clock.now() });
    await w.operator({ clock });
    w.apply();
    await w.served('team-a');
    await w.ready();
    const body = { kind: 'Status', code: status, reason: 'Refused', message: 'exceeded quota: few' };
    w.api.faults = ({ resource, patch, dryRun, user }) =>
      resource === 'secrets' && patch === 'apply' && !dryRun && user === w.sandbox.operatorUser
        ? { kind: 'answer', status, headers, body }
        : null;
    const mark = w.api.audit.mark();
    w.admin.delete(path);
    // Somebody replaces the list of the ServiceAccount twice a second.
    for (let i = 0; i < 120; i++) {
      w.admin.merge(account, { imagePullSecrets: [{ name: `other-${i}` }] }, 'other');
      await new Promise((resolve) => setTimeout(resolve, 500 / speed));
    }
    const tries = w.api.audit.since(mark).of({ resource: 'secrets', patch: 'apply', namespace: 'team-a' });
    const steady = tries.map(({ at }) => (at - (tries[0]?.at ?? 0)) * speed).filter((ms) => ms === 0 || ms > 10_000);
    expect(steady.length).toBeGreaterThanOrEqual(3);
    expect(steady.slice(1).filter((ms, i) => ms - (steady[i] ?? 0) < (status === 429 ? 19_000 : 4_800))).toEqual([]);
    w.api.faults = () => null;
    await w.served('team-a');
    await w.ready();
  });

  it.each<[string, (w: World) => void]>([
    ['namespace', ({ admin }) => admin.delete('/api/v1/namespaces/team-e2e')],
    ['ServiceAccount', ({ admin }) => admin.delete('/api/v1/namespaces/team-e2e/serviceaccounts/default')],
  ])('a %s that is deleted and made again and again is a new one each time, and no repair', async (what, remove) => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    const operator = await w.operator();
    w.apply();
    await w.served('team-a');
    for (let round = 0; round < 5; round++) {
      if (what === 'namespace' || round === 0) w.createNamespace('team-e2e');
      await w.served('team-e2e');
      await w.quiet();
      remove(w);
      if (what === 'namespace') {
        await eventually('it is gone', () => w.admin.find('/api/v1/namespaces/team-e2e') === null);
        await w.quiet();
      }
    }
    expect(operator.lines().filter(({ message }) => /put right|added again/.test(message))).toEqual([]);
    const events = w.api.audit.of({ user: w.sandbox.operatorUser, resource: 'events', verb: 'create' });
    expect(events.filter(({ namespace }) => namespace === 'team-e2e')).toEqual([]);
    // What is ours in one that stays is repaired as ever.
    w.admin.delete(path);
    await w.served('team-a');
    await eventually('it is told', () => operator.lines().some(({ message }) => message.includes('put right')));
  });

  it('a namespace that goes while it is worked on leaves nothing behind for the next of its name', async () => {
    await using w = await startWorld({ namespaces: [] });
    const operator = await w.operator();
    w.apply();
    await w.ready();
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    w.api.faults = ({ resource, patch, user }) =>
      resource === 'serviceaccounts' && patch === 'json' && user === w.sandbox.operatorUser
        ? { kind: 'hold', until: gone }
        : null;
    w.createNamespace('team-e2e');
    await eventually('its Secret is there', () => w.secret('team-e2e') !== null);
    w.admin.delete('/api/v1/namespaces/team-e2e');
    await eventually('it is gone', () => w.admin.find('/api/v1/namespaces/team-e2e') === null);
    await w.quiet(); // it is seen to be gone
    w.api.faults = () => null;
    resolve();
    await eventually('the write is refused', () => w.api.audit.of({ resource: 'serviceaccounts', patch: 'json' })[0]);
    await w.quiet();
    w.createNamespace('team-e2e');
    await w.served('team-e2e');
    expect(operator.lines().filter(({ message }) => /put right|added again/.test(message))).toEqual([]);
  });
});
