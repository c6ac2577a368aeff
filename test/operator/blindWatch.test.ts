import { describe, expect, it } from 'vitest';
import { annotations } from '../../src/api/groupVersion.ts';
import type { Clock } from '../../src/clock.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { unavailable } from '../sandbox/faults.ts';
import { startWorld, staysSo, type World } from './world.ts';

// The watch of Secrets shows nothing, and all else goes well: what is there is found out before anything is written.

const path = '/api/v1/namespaces/team-c/secrets/ecr-pull';
const account = '/api/v1/namespaces/team-c/serviceaccounts/default';

type Kind = 'secrets' | 'serviceaccounts';

const refused =
  (kind: Kind) =>
  ({ api }: World): void => {
    const isBlind = (verb: string) => verb === 'watch' || verb === 'list';
    api.faults = ({ resource, verb }) => (resource === kind && isBlind(verb) ? unavailable() : null);
    api.cutWatches({ of: kind });
  };

const silent =
  (kind: Kind) =>
  ({ api }: World): void =>
    api.silenceWatches({ of: kind });

/** Something in the namespace changes so many times, and each time it is looked at; a second is twenty of the operator's. */
async function lookedAtAgain(w: World, path = account, times = 10): Promise<void> {
  let changes = 0;
  await staysSo(times * 100, () => {
    if (changes < times) w.admin.merge(path, { metadata: { labels: { change: String((changes += 1)) } } }, 'other');
    return true;
  });
}

function applies({ api, sandbox }: World): number {
  return api.audit.of({ user: sandbox.operatorUser, resource: 'secrets', verb: 'patch', namespace: 'team-c' }).length;
}

function told(w: World): string[] {
  return w.admin.list('/apis/events.k8s.io/v1/namespaces/team-c/events').map(({ note }) => String(note));
}

describe.concurrent('while the watch of Secrets is down, the operator', () => {
  const begin = async (w: World, clock: Clock) => {
    const first = await w.operator({ clock });
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    return first;
  };

  it.each([
    ['refused', refused('secrets')],
    ['silent', silent('secrets')],
  ] as const)('makes a Secret once, and tells of no repair that was none: %s', async (_, blind) => {
    const clock = fastClock(20);
    await using w = await startWorld({ now: () => clock.now() });
    await begin(w, clock);
    blind(w);
    w.createNamespace('team-c');
    await w.served('team-c');
    await lookedAtAgain(w);
    expect(applies(w)).toBe(1);
    expect(told(w)).toEqual([]);
    w.admin.delete(path);
    w.api.faults = () => null;
    w.api.cutWatches({ of: 'secrets' });
    await w.served('team-c');
    expect(applies(w)).toBe(2);
  });

  it('that takes over makes no Secret again that is there', async () => {
    const clock = fastClock(20);
    await using w = await startWorld({ now: () => clock.now() });
    const first = await begin(w, clock);
    await w.operator({ clock });
    refused('secrets')(w);
    w.createNamespace('team-c');
    await w.served('team-c');
    await first.stop();
    await lookedAtAgain(w);
    await w.quiet();
    expect(applies(w)).toBe(1);
    expect(told(w)).toEqual([]);
  });
});

describe.concurrent('while the watch of ServiceAccounts is down, the operator', () => {
  const namespace = '/api/v1/namespaces/team-c';
  const patches = ({ api, sandbox }: World): number =>
    api.audit.of({ user: sandbox.operatorUser, resource: 'serviceaccounts', verb: 'patch', namespace: 'team-c' })
      .length;

  it.each([
    ['refused', refused('serviceaccounts')],
    ['silent', silent('serviceaccounts')],
  ] as const)('writes an entry once, however often it looks: %s', async (_, blind) => {
    const clock = fastClock(20);
    await using w = await startWorld({ now: () => clock.now() });
    await w.operator({ clock });
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    w.createNamespace('team-c', { annotations: { [annotations.ignore]: 'true' } });
    await w.quiet();
    blind(w);
    w.admin.merge(namespace, { metadata: { annotations: { [annotations.ignore]: null } } });
    await w.served('team-c');
    await lookedAtAgain(w, namespace);
    expect(patches(w)).toBe(1);
  });
});

it('while the watches of Secrets and ServiceAccounts are silent, the operator removes what is ours once, however often it looks', async () => {
  const clock = fastClock(20);
  await using w = await startWorld({ now: () => clock.now() });
  await w.operator({ clock, args: ['--removal-delay=1s'] });
  w.apply();
  await w.served('team-a', 'team-b');
  await w.ready();
  for (const kind of ['secrets', 'serviceaccounts'] as const) silent(kind)(w);
  const namespace = '/api/v1/namespaces/team-a';
  const mark = w.api.audit.mark();
  w.admin.merge(namespace, { metadata: { annotations: { [annotations.ignore]: 'true' } } });
  await eventually('nothing of ours is left', () => w.secret('team-a') === null && w.entries('team-a').length === 0);
  await lookedAtAgain(w, namespace, 20);
  const writes = w.api.audit.since(mark).fanOutWrites({ user: w.sandbox.operatorUser });
  expect(writes.map(({ verb, resource }) => `${verb} ${resource}`)).toEqual([
    'patch serviceaccounts',
    'delete secrets',
  ]);
});
