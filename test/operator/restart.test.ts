import { describe, expect, it } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { unavailable } from '../sandbox/faults.ts';
import { staysSo, startWorld } from './world.ts';

describe.concurrent('restart', () => {
  it('costs no call to AWS and no write', async () => {
    await using w = await startWorld();
    const first = await w.operator();
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    await eventually('the tokens are stored', () => w.secret(w.sandbox.namespace, 'ecr-pull-tokens'));
    await first.stop();
    const [mark, calls] = [w.api.audit.mark(), w.sandbox.aws.calls.length];
    const second = await w.operator();
    await eventually('it leads', async () => (await second.metric('ecr_pull_secrets_leader')) === 1);
    await staysSo(1000, () => w.isServed('team-a'));
    const writes = w.api.audit.since(mark).writes({ user: w.sandbox.operatorUser });
    expect(writes.filter(({ resource }) => resource !== 'leases')).toEqual([]);
    expect(w.sandbox.aws.calls).toHaveLength(calls);
  });

  it('costs as little where the API server is slow to give the stored tokens', async () => {
    await using w = await startWorld();
    const first = await w.operator();
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    await w.quiet();
    await first.stop();
    const mark = w.api.audit.mark();
    w.api.faults = ({ verb, name }) =>
      verb === 'get' && name === 'ecr-pull-tokens' ? { kind: 'delay', ms: 2_000 } : null;
    const second = await w.operator();
    await eventually('it leads', async () => (await second.metric('ecr_pull_secrets_leader')) === 1);
    await staysSo(2_500, () => w.isReady());
    await w.quiet();
    const { operatorUser: user } = w.sandbox;
    const writes = w.api.audit.since(mark).writes({ user });
    expect(writes.filter(({ resource }) => resource !== 'leases')).toEqual([]);
    expect(w.tokenCalls()).toBe(1);
  });

  it('while AWS is away, new namespaces are served from what is stored', async () => {
    await using w = await startWorld();
    const first = await w.operator();
    w.apply();
    await w.ready();
    await eventually('the tokens are stored', () => w.secret(w.sandbox.namespace, 'ecr-pull-tokens'));
    await first.stop();
    await w.sandbox.aws.setMode('down');
    await w.operator();
    w.createNamespace('team-late');
    await w.served('team-late');
    expect(await w.pull('team-late')).toMatchObject({ ok: true });
  });

  it('the API server restarts: nothing is lost, and nothing missed', async () => {
    await using w = await startWorld();
    await w.operator();
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    await w.api.stop();
    w.createNamespace('team-meanwhile');
    await w.api.restart();
    await w.served('team-meanwhile');
    expect(w.isServed('team-a')).toBe(true);
  });
});

describe.concurrent('two replicas', () => {
  it('tokens that could not be stored are stored as soon as they can be, and the next leader has them', async () => {
    const clock = fastClock(20);
    await using w = await startWorld({ now: () => clock.now() });
    let refused = 0;
    w.api.faults = ({ name, verb }) =>
      name === 'ecr-pull-tokens' && verb === 'patch' && (refused += 1) <= 3 ? unavailable() : null;
    const first = await w.operator({ clock });
    w.apply();
    await w.served('team-a', 'team-b');
    await eventually('the tokens are stored', () => w.secret(w.sandbox.namespace, 'ecr-pull-tokens'));
    await first.stop();
    await w.operator({ clock });
    w.createNamespace('team-c');
    await w.served('team-c');
    expect([refused, w.tokenCalls()]).toEqual([4, 1]);
  });

  it('one of them leads; when it ends the other goes on without a call or a write', async () => {
    await using w = await startWorld();
    const one = await w.operator();
    const other = await w.operator();
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    expect(await one.metric('ecr_pull_secrets_leader')).toBe(1);
    expect(await other.metric('ecr_pull_secrets_leader')).toBe(0);
    expect((await other.readyz()).status).toBe(200);
    await eventually('the tokens are stored', () => w.secret(w.sandbox.namespace, 'ecr-pull-tokens'));
    const mark = w.api.audit.mark();
    await one.stop();
    await eventually('the other leads', async () => (await other.metric('ecr_pull_secrets_leader')) === 1);
    w.createNamespace('team-late');
    await w.served('team-late');
    expect(w.tokenCalls()).toBe(1);
    const writes = w.api.audit.since(mark).fanOutWrites({ user: w.sandbox.operatorUser });
    expect(new Set(writes.map(({ namespace }) => namespace))).toEqual(new Set(['team-late']));
  });
});
