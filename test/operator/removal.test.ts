import { describe, expect, it } from 'vitest';
import { resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { htmlPage, unavailable } from '../sandbox/faults.ts';
import { staysSo, startWorld } from './world.ts';

describe.concurrent('removal', () => {
  it('a deleted resource takes everything of ours with it, after a while, and nothing of others', async () => {
    await using w = await startWorld();
    w.admin.create({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'builder', namespace: 'team-a' },
      imagePullSecrets: [{ name: 'ecr-pull' }],
    });
    await w.operator({ args: ['--removal-delay=300ms'] });
    w.apply();
    await w.served('team-a', 'team-b');
    w.admin.merge('/api/v1/namespaces/team-a/serviceaccounts/default', {
      imagePullSecrets: [{ name: 'ecr-pull' }, { name: 'own' }],
    });
    w.admin.delete(`${resourcesPath}/production`);
    await staysSo(200, () => w.isServed('team-a') && w.isServed('team-b'));
    await eventually('both are empty', () => w.secret('team-a') === null && w.secret('team-b') === null);
    expect(w.entries('team-a')).toEqual(['own']);
    expect(w.entries('team-a', 'builder')).toEqual(['ecr-pull']); // a user's: it was never served
    const removals = w.api.audit.of({ user: w.sandbox.operatorUser, namespace: 'team-b' }).slice(-2);
    expect(removals.map(({ resource, verb }) => `${verb} ${resource}`)).toEqual([
      'patch serviceaccounts',
      'delete secrets',
    ]);
  });

  it('goes on where a resource that held its host everywhere is known to be deleted', async () => {
    await using w = await startWorld({ namespaces: ['team-a', 'team-b', 'team-c'] });
    await w.operator({ args: ['--removal-delay=400ms'] });
    w.apply({ namespaces: { names: ['team-a', 'team-c'] } }, 'first');
    w.apply({ namespaces: { names: ['team-b'] } }, 'second');
    await w.served('team-a', 'team-b', 'team-c');
    await staysSo(2_500, () => true); // whatever has all looked at after a start is over
    w.apply({ namespaces: { names: ['team-c'] } }, 'first');
    await staysSo(200, () => w.isServed('team-a'));
    w.admin.delete(`${resourcesPath}/second`);
    await eventually('both are empty', () => w.secret('team-a') === null && w.secret('team-b') === null);
    expect(w.isServed('team-c')).toBe(true);
  });

  it('what was deleted while the operator was down is removed after its start', async () => {
    await using w = await startWorld();
    const first = await w.operator({ args: ['--removal-delay=50ms'] });
    w.apply();
    w.apply({ namespaces: { names: ['team-b'] } }, 'other');
    await w.served('team-a', 'team-b');
    await first.stop();
    w.admin.delete(`${resourcesPath}/production`);
    await w.operator({ args: ['--removal-delay=50ms'] });
    await eventually('team-a is empty', () => w.secret('team-a') === null && w.entries('team-a').length === 0);
    expect(w.isServed('team-b')).toBe(true);
  });

  it('delete and create is no removal, and writes nothing', async () => {
    await using w = await startWorld();
    await w.operator({ args: ['--removal-delay=500ms'] });
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    const mark = w.api.audit.mark();
    w.admin.delete(`${resourcesPath}/production`);
    w.apply();
    await staysSo(800, () => w.isServed('team-a') && w.isServed('team-b'));
    await w.ready();
    expect(w.api.audit.since(mark).fanOutWrites({ user: w.sandbox.operatorUser })).toEqual([]);
  });

  it('a CRD that is deleted, with all its resources, removes nothing; back again, nothing is written', async () => {
    await using w = await startWorld();
    await w.operator({ args: ['--removal-delay=50ms'] });
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    const mark = w.api.audit.mark();
    const crdPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusterecrpullsecrets.ecr.pullsecrets.io';
    const { apiVersion, kind, spec, metadata } = w.admin.get(crdPath);
    w.admin.delete(crdPath);
    await eventually('it is gone', () => w.admin.find(crdPath) === null);
    await staysSo(500, () => w.isServed('team-a') && w.isServed('team-b'));
    w.admin.create({ apiVersion, kind, spec, metadata: { name: metadata.name } });
    await staysSo(500, () => w.isServed('team-a') && w.isServed('team-b'));
    w.apply();
    await w.ready();
    expect(w.api.audit.since(mark).fanOutWrites({ user: w.sandbox.operatorUser })).toEqual([]);
  });

  it.each([
    ["a proxy's page", () => htmlPage(200)],
    ['an empty body', () => ({ kind: 'answer', status: 200, body: '' }) as const],
    [
      'a list without items',
      () => ({ kind: 'answer', status: 200, body: { kind: 'List', metadata: { resourceVersion: '1' } } }) as const,
    ],
    [
      '403',
      () =>
        ({
          kind: 'answer',
          status: 403,
          body: { kind: 'Status', code: 403, reason: 'Forbidden', message: 'no' },
        }) as const,
    ],
  ])('%s in the place of the list of resources removes nothing', async (_, fault) => {
    await using w = await startWorld();
    await w.operator({ args: ['--removal-delay=20ms'] });
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    w.api.faults = (request) =>
      request.resource === 'clusterecrpullsecrets' && request.subresource === '' ? fault() : null;
    w.api.store.compact();
    w.api.endWatches();
    w.admin.merge('/api/v1/namespaces/team-a', { metadata: { labels: { changed: 'true' } } });
    await staysSo(700, () => w.isServed('team-a') && w.isServed('team-b'));
    w.api.faults = () => null;
    await w.ready();
    expect(w.isServed('team-a')).toBe(true);
  });

  it.each(['clusterecrpullsecrets', 'namespaces'])(
    'while the watch of %s is down, nothing is removed that was put right meanwhile',
    async (blind) => {
      await using w = await startWorld({ namespaces: ['team-b'] });
      w.createNamespace('team-a', { labels: { tier: 'a' } });
      await w.operator({ args: ['--removal-delay=100ms'] });
      w.apply({ namespaces: { selector: { matchLabels: { tier: 'a' } } } });
      await w.served('team-a');
      await w.ready();
      const mark = w.api.audit.mark();
      const relabel = (tier: string) => w.admin.merge('/api/v1/namespaces/team-a', { metadata: { labels: { tier } } });
      const aMoment = () => new Promise((resolve) => setTimeout(resolve, 30));
      if (blind === 'namespaces') relabel('none');
      await aMoment(); // seen, and not yet waited for
      w.api.faults = ({ resource, subresource, name }) =>
        resource === blind && subresource === '' && name === '' ? unavailable() : null;
      w.api.cutWatches();
      await aMoment();
      if (blind === 'namespaces') relabel('a');
      else {
        w.apply({ namespaces: { selector: { matchLabels: { tier: 'b' } } } }, 'other');
        relabel('b');
      }
      await staysSo(700, () => w.isServed('team-a'));
      w.api.faults = () => null;
      await w.quiet();
      const writes = w.api.audit.since(mark).of({ user: w.sandbox.operatorUser, namespace: 'team-a' });
      expect(writes.filter(({ verb, resource }) => verb === 'delete' || resource === 'serviceaccounts')).toEqual([]);
    },
  );

  it('of what somebody makes again each time is ever slower, and told once', async () => {
    const clock = fastClock(20);
    await using w = await startWorld({ namespaces: ['team-a', 'other'], now: () => clock.now() });
    await w.operator({ clock });
    w.apply();
    await w.served('team-a');
    const { metadata, ...rest } = w.secret('team-a')!;
    const { labels = {}, annotations = {} } = metadata;
    const clone = { ...rest, metadata: { name: 'ecr-pull', namespace: 'other', labels, annotations } };
    const again = setInterval(() => {
      if (w.secret('other') === null) w.admin.create(structuredClone(clone));
    }, 1);
    await new Promise((resolve) => setTimeout(resolve, 4_000)); // 80 s
    clearInterval(again);
    const times = w.api.audit
      .of({ user: w.sandbox.operatorUser, namespace: 'other', verb: 'delete' })
      .map(({ at }) => at);
    const gaps = times.slice(1).map((time, i) => (time - times[i]!) * 20);
    expect(times.length).toBeGreaterThanOrEqual(5);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(4_900);
    expect(gaps.at(-1)).toBeGreaterThan(14_000);
    const events = w.admin.list('/apis/events.k8s.io/v1/namespaces/other/events');
    expect(events.map(({ type, reason, note }) => `${String(type)} ${String(reason)}: ${String(note)}`)).toEqual([
      expect.stringMatching(/^Warning CloneRemoved: .* by \S+, though/),
    ]);
  });
});
