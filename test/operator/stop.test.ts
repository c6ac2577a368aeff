import { describe, expect, it } from 'vitest';
import { operatorName } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { OperatorProcess } from '../demo/operatorProcess.ts';
import { startWorld, type World } from './world.ts';

function holder(w: World): unknown {
  const path = `/apis/coordination.k8s.io/v1/namespaces/${w.sandbox.namespace}/leases/${operatorName}`;
  return (w.admin.find(path)?.['spec'] as { holderIdentity?: string } | undefined)?.holderIdentity;
}

async function msUntil(holds: () => boolean): Promise<number> {
  const since = performance.now();
  await eventually('it is so', holds, 20_000);
  return performance.now() - since;
}

describe.concurrent('an operator that ends', () => {
  it('gives its lease back before it waits for events that hang, and waits for those 3 s at most', async () => {
    const namespaces = Array.from({ length: 5 }, (_, i) => `team-${i}`);
    await using w = await startWorld({ namespaces });
    const operator = await w.operator();
    w.apply();
    await w.served(...namespaces);
    await w.ready();
    await w.quiet();
    w.api.faults = ({ resource, verb }) => (resource === 'events' && verb !== 'list' ? { kind: 'hold' } : null);
    for (const namespace of namespaces) w.admin.delete(`/api/v1/namespaces/${namespace}/secrets/ecr-pull`);
    await w.served(...namespaces);
    await eventually('an event hangs', () => w.api.held > 0);
    const since = performance.now();
    const ended = operator.stop();
    expect(await msUntil(() => holder(w) === '')).toBeLessThan(1_500);
    await ended;
    expect(performance.now() - since).toBeLessThan(5_000);
  });

  it('tells what happened before it does', async () => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    const operator = await w.operator();
    w.apply();
    await w.served('team-a');
    await w.ready();
    await w.quiet();
    w.api.faults = ({ resource, verb }) =>
      resource === 'events' && verb !== 'list' ? { kind: 'delay', ms: 500 } : null;
    w.admin.delete('/api/v1/namespaces/team-a/secrets/ecr-pull');
    await eventually('it is put right', () => operator.lines().some(({ message }) => message.includes('put right')));
    await operator.stop();
    const events = w.admin.list('/apis/events.k8s.io/v1/namespaces/team-a/events');
    expect(events.map((event) => event['reason'])).toContain('SecretRestored');
  });

  it.each(['secrets', 'serviceaccounts'])(
    'does not wait for a watch of %s that does not show what was written',
    async (what) => {
      await using w = await startWorld({ namespaces: ['team-a'] });
      w.api.faults = ({ resource, verb, namespace }) =>
        resource === what && verb === 'watch' && namespace === '' ? { kind: 'hold' } : null;
      const operator = await w.operator();
      w.apply();
      const isWritten = (): boolean => (what === 'secrets' ? w.secret('team-a') !== null : w.isServed('team-a'));
      await eventually('it is written', isWritten);
      const ended = operator.stop();
      expect(await msUntil(() => holder(w) === '')).toBeLessThan(1_500);
      await ended;
    },
  );

  it('lets the write that is under way come to its end before it gives its lease back', async () => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    let isUnderWay = false;
    w.api.faults = ({ resource, verb, user }) => {
      if (resource !== 'serviceaccounts' || verb !== 'patch' || user !== w.sandbox.operatorUser) return null;
      isUnderWay = true;
      return { kind: 'delay', ms: 1_000 };
    };
    const operator = await w.operator();
    w.apply();
    await eventually('a write is under way', () => isUnderWay);
    const ended = operator.stop();
    await msUntil(() => holder(w) === '');
    expect(w.isServed('team-a')).toBe(true);
    await ended;
  });

  it('waits for the write that is under way, and begins no more where those hang', async () => {
    const speed = 10;
    const clock = fastClock(speed);
    await using w = await startWorld({ namespaces: ['team-a'], now: () => clock.now() });
    for (const name of ['one', 'two', 'three', 'four']) {
      w.admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: 'team-a' } });
    }
    w.api.faults = ({ resource, verb, user }) =>
      resource === 'serviceaccounts' && verb === 'patch' && user === w.sandbox.operatorUser ? { kind: 'hold' } : null;
    const operator = await w.operator({ clock });
    w.apply({ serviceAccounts: { names: ['*'] } });
    await eventually('a write hangs', () => w.api.held === 1);
    const ended = operator.stop();
    const ms = await msUntil(() => holder(w) === '');
    expect(ms * speed).toBeLessThan(15_000); // the deadline of one is 8 s
    expect(w.api.held).toBe(1);
    await ended;
  });

  it('is asked to while it waits for an API server that is away: it ends with 0, at once', async () => {
    await using w = await startWorld();
    await w.api.stop();
    const operator = OperatorProcess.start(w.sandbox);
    try {
      await eventually('it has started', () => operator.tail(50).some((line) => line.includes('"started"')), 15_000);
      const since = performance.now();
      expect(await operator.stop()).toBe(0);
      expect(performance.now() - since).toBeLessThan(2_000);
    } finally {
      operator.kill();
    }
  });
});
