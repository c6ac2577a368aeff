import { describe, expect, it } from 'vitest';

import { ConflictError, StoppedError, ThrottledError, TransientError } from '../../src/errors.ts';
import { ApiStatusError } from '../../src/kube/apiStatusError.ts';
import type { KubeRequest } from '../../src/kube/client.ts';
import { LeaderElector, type LeaderElectorOptions } from '../../src/kube/leaderElection.ts';
import type { Lease } from '../../src/kube/lease.ts';
import { FakeClock, flush } from '../fakeClock.ts';
import { TestLog } from './testServer.ts';

/** An API server's one Lease, with its rules for resourceVersion. */
class LeaseServer {
  lease: Lease | null = null;
  version = 0;
  requests: string[] = [];
  fail: ((r: KubeRequest) => void | Promise<void>) | null = null;

  async request<T>(r: KubeRequest): Promise<T> {
    this.requests.push(r.method);
    r.beforeSend?.();
    await this.fail?.(r);
    if (r.method === 'GET') return structuredClone(this.#existing()) as T;
    const body = r.body as Lease;
    if (r.method === 'POST') {
      if (this.lease !== null) throw new ConflictError('AlreadyExists', 'there');
    } else if (this.#existing().metadata.resourceVersion !== body.metadata.resourceVersion) {
      throw new ConflictError('Conflict', 'changed');
    }
    return structuredClone(this.put(body)) as T;
  }

  put(lease: Lease): Lease {
    this.version += 1;
    this.lease = structuredClone({ ...lease, metadata: { ...lease.metadata, resourceVersion: String(this.version) } });
    return this.lease;
  }

  heldBy(holderIdentity: string, spec: Lease['spec'] = {}): void {
    const times = { acquireTime: '2020-01-01T00:00:00.000000Z', renewTime: '2020-01-01T00:00:00.000000Z' };
    this.put({
      ...{ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'op', namespace: 'ns' } },
      spec: { holderIdentity, leaseDurationSeconds: 15, leaseTransitions: 3, ...times, ...spec },
    });
  }

  #existing(): Lease {
    if (this.lease === null) {
      const asked = { verb: 'get', resource: 'leases' };
      throw new ApiStatusError(asked, { status: 404, reason: 'NotFound', message: '', causes: [] });
    }
    return this.lease;
  }
}

interface Candidate {
  elector: LeaderElector;
  changes: string[];
  leads: () => boolean;
}

function candidate(server: LeaseServer, clock: FakeClock, o: Partial<LeaderElectorOptions> = {}): Candidate {
  const changes: string[] = [];
  const elector = new LeaderElector({
    ...{ client: server, clock, namespace: 'ns', name: 'op', identity: 'us', random: () => 0.5, log: new TestLog() },
    onChange: (leading) => changes.push(`${leading} at ${Math.round(clock.monotonic() / 1000)}`),
    ...o,
  });
  elector.start();
  return { elector, changes, leads: () => elector.isLeader() };
}

async function leading(
  o: Partial<LeaderElectorOptions> = {},
): Promise<Candidate & { server: LeaseServer; clock: FakeClock }> {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const us = candidate(server, clock, o);
  await clock.advance(0);
  expect(us.leads()).toBe(true);
  return { ...us, server, clock };
}

/** Seconds until it leads; null where it does not within `most`. */
async function secondsToLead({ leads }: Candidate, clock: FakeClock, most = 120): Promise<number | null> {
  const begun = clock.monotonic();
  for (let i = 0; i < most * 10; i++) {
    if (leads()) return (clock.monotonic() - begun) / 1000;
    await clock.advance(100);
  }
  return null;
}

describe('the term', () => {
  it('is given to nobody who does not lead', async () => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    server.heldBy('other');
    const { elector } = candidate(server, clock);
    await clock.advance(0);
    expect(() => elector.term()).toThrow('the lease is not ours');
  });

  it('ends as soon as the lease has lapsed, and another one begins with the next', async () => {
    const { elector, server, clock, leads } = await leading();
    const first = elector.term();
    server.fail = () => {
      throw new TransientError('Network', 'the connection failed');
    };
    await clock.advance(9_900);
    expect(first.aborted).toBe(false);
    await clock.advance(200);
    expect(first.aborted).toBe(true);
    expect(first.reason).toBeInstanceOf(StoppedError);
    expect(() => elector.term()).toThrow('the lease is not ours');
    server.fail = null;
    await secondsToLead({ elector, changes: [], leads }, clock);
    expect(elector.term().aborted).toBe(false);
    expect(first.aborted).toBe(true);
  });

  it('ends where the lease is lost to another one', async () => {
    const { elector, server, clock } = await leading();
    const term = elector.term();
    server.heldBy('other');
    await clock.advance(3_000);
    expect(term.aborted).toBe(true);
  });
});

describe('taking the lease', () => {
  const future = { renewTime: '2099-01-01T00:00:00.000000Z' };
  it.each([
    ['there is none', (): void => undefined, 0, 0.1],
    ['it was given back', (server: LeaseServer) => server.heldBy('', { leaseDurationSeconds: 1 }), 0, 0.1],
    ['it is ours from before', (server: LeaseServer) => server.heldBy('us'), 0, 0.1],
    ['its holder is gone', (server: LeaseServer) => server.heldBy('gone'), 15, 17],
    ['its holder is gone, and its clock was ahead', (server: LeaseServer) => server.heldBy('gone', future), 15, 17],
    ['it asks for an hour', (server: LeaseServer) => server.heldBy('gone', { leaseDurationSeconds: 3600 }), 60, 62],
    ['it is short', (server: LeaseServer) => server.heldBy('gone', { leaseDurationSeconds: 3 }), 3, 5],
  ] as const)('where %s', async (_, prepare, atLeast, atMost) => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    prepare(server);
    const seconds = await secondsToLead(candidate(server, clock), clock);
    expect(seconds).toBeGreaterThanOrEqual(atLeast);
    expect(seconds).toBeLessThanOrEqual(atMost);
    expect(server.lease?.spec.holderIdentity).toBe('us');
  });

  it('that somebody renews is left to him, whatever time he writes', async () => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    server.heldBy('other');
    const us = candidate(server, clock);
    for (let i = 0; i < 30; i++) {
      server.heldBy('other', { renewTime: `1999-01-01T00:00:${String(i).padStart(2, '0')}.000000Z` });
      await clock.advance(2000);
    }
    expect(us.changes).toEqual([]);
    expect(us.elector.holder()).toBe('other');
  });

  it('a change of the object that is none of the lease renews nothing', async () => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    server.heldBy('gone');
    const us = candidate(server, clock);
    for (let i = 0; i < 9; i++) {
      server.put({ ...server.lease!, metadata: { ...server.lease!.metadata, labels: { i: String(i) } } });
      await clock.advance(2000);
    }
    expect(us.leads()).toBe(true);
    expect(server.lease?.metadata.labels).toBeDefined();
  });

  it('writes what Kubernetes expects, and counts transitions', async () => {
    const [server, clock] = [new LeaseServer(), new FakeClock('2026-03-01T10:00:00.123Z')];
    server.heldBy('gone', { strategy: 'kept' } as object);
    await secondsToLead(candidate(server, clock), clock);
    const taken = server.lease!.spec;
    expect(taken).toMatchObject({
      holderIdentity: 'us',
      leaseDurationSeconds: 15,
      leaseTransitions: 4,
      strategy: 'kept',
    });
    expect(taken.renewTime).toMatch(/^2026-03-01T10:00:\d\d\.\d{6}Z$/);
    await clock.advance(10_000);
    const renewed = server.lease!.spec;
    expect(renewed.acquireTime).toBe(taken.acquireTime);
    expect(renewed.leaseTransitions).toBe(4);
    expect(renewed.renewTime! > taken.renewTime!).toBe(true);
  });

  it('of two at once one gets it', async () => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    const all = ['a', 'b', 'c'].map((identity) => candidate(server, clock, { identity }));
    for (let i = 0; i < 60; i++) {
      await clock.advance(1000);
      expect(all.filter(({ leads }) => leads())).toHaveLength(1);
    }
  });
});

describe('keeping it', () => {
  it('costs one write every two seconds, and no read', async () => {
    const { server, clock, changes } = await leading();
    server.requests.length = 0;
    await clock.advance(60_000);
    expect(server.requests).toEqual(Array.from({ length: 30 }, () => 'PUT'));
    expect(changes).toEqual(['true at 0']);
  });

  it('survives a deleted lease', async () => {
    const { server, clock, leads, changes } = await leading();
    server.lease = null;
    await clock.advance(5000);
    expect(leads()).toBe(true);
    expect(changes).toEqual(['true at 0']);
    expect(server.lease).not.toBeNull();
  });

  it('survives a foreign edit of the object', async () => {
    const { server, clock, leads } = await leading();
    server.put({ ...server.lease!, metadata: { ...server.lease!.metadata, labels: { a: 'b' } } });
    await clock.advance(12_000);
    expect(leads()).toBe(true);
    expect(server.lease?.metadata.labels).toEqual({ a: 'b' });
  });

  it('survives failures shorter than the deadline', async () => {
    const { server, clock, leads } = await leading();
    server.fail = () => Promise.reject(new TransientError('Network', 'down'));
    await clock.advance(9000);
    expect(leads()).toBe(true);
    server.fail = null;
    await clock.advance(20_000);
    expect(leads()).toBe(true);
  });
});

describe('a lease that is older than it was', () => {
  async function rewindsAfter(change: (server: LeaseServer) => void, isOther = false): Promise<number> {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    server.version = 1000;
    if (isOther) server.heldBy('other');
    let rewinds = 0;
    candidate(server, clock, { onRewind: () => (rewinds += 1) });
    await clock.advance(4000);
    change(server);
    await clock.advance(8000);
    return rewinds;
  }

  const restore = (server: LeaseServer): void => {
    server.version = 998; // 999 it becomes, below 1003 as numbers go
    server.put(server.lease!);
  };

  it.each([false, true])('tells once that etcd was restored (another one holds it: %s)', async (isOther) => {
    expect(await rewindsAfter(restore, isOther)).toBe(1);
  });

  it('tells it where the copy had none', async () => {
    const gone = (server: LeaseServer): void => void Object.assign(server, { version: 998, lease: null });
    expect(await rewindsAfter(gone)).toBe(1);
  });

  it('is told apart from one that somebody edits, or deletes', async () => {
    expect(await rewindsAfter((server) => void server.put(server.lease!))).toBe(0);
    expect(await rewindsAfter((server) => void (server.lease = null))).toBe(0);
  });
});

describe('losing it', () => {
  it('ten seconds after the last renewal that went well was sent', async () => {
    const { server, clock, leads, changes } = await leading();
    await clock.advance(4000);
    server.fail = () => Promise.reject(new TransientError('Network', 'down'));
    await clock.advance(9999);
    expect(leads()).toBe(true);
    await clock.advance(1);
    expect(leads()).toBe(false);
    expect(changes).toEqual(['true at 0', 'false at 14']);
    server.fail = null;
    await clock.advance(5000);
    expect(leads()).toBe(true);
  });

  it('is not hastened by a server that asks for patience', async () => {
    const { server, clock, leads } = await leading();
    server.fail = () => Promise.reject(new ThrottledError('TooManyRequests', 'busy', { retryAfterMs: 5000 }));
    server.requests.length = 0;
    await clock.advance(6900);
    expect(server.requests).toHaveLength(1);
    server.fail = null;
    await clock.advance(200);
    expect(server.requests).toHaveLength(2);
    await clock.advance(5000);
    expect(leads()).toBe(true);
  });

  it('counts from sending: a slow answer does not lengthen it', async () => {
    const { server, clock, leads } = await leading();
    server.fail = () => new Promise((resolve) => clock.after(4000, resolve));
    await clock.advance(2000 + 4000); // sent at 2 s, answered at 6 s
    server.fail = () => Promise.reject(new TransientError('Network', 'down'));
    await clock.advance(12_000 - clock.monotonic() - 1);
    expect(leads()).toBe(true);
    await clock.advance(1);
    expect(leads()).toBe(false);
  });

  it('an answer that comes after the deadline begins no term', async () => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    server.fail = (r) => (r.method === 'POST' ? new Promise((resolve) => clock.after(11_000, resolve)) : undefined);
    const us = candidate(server, clock);
    await clock.advance(11_000);
    expect(us.changes).toEqual([]);
    server.fail = null;
    await clock.advance(5000);
    expect(us.leads()).toBe(true);
  });

  it.each([
    ['stopped (SIGSTOP)', { wall: 40_000, monotonic: 40_000 }],
    ['suspended: the monotonic clock stood still', { wall: 40_000 }],
    ['moved back in wall time meanwhile', { wall: -3_600_000, monotonic: 40_000 }],
  ])('at once when the process wakes after having been %s', async (_, jump) => {
    const { clock, leads, changes, server } = await leading();
    clock.jump(jump);
    expect(leads()).toBe(false);
    server.heldBy('other');
    await clock.advance(2000);
    expect(changes.map((change) => change.split(' ')[0])).toEqual(['true', 'false']);
    expect(leads()).toBe(false);
  });

  it('tells the end of a term that lapsed unseen before it tells the next', async () => {
    const { clock, changes, leads } = await leading();
    clock.jump({ wall: 20_000 }); // NTP
    expect(leads()).toBe(false);
    await clock.advance(2000);
    expect(leads()).toBe(true);
    expect(changes.map((change) => change.split(' ')[0])).toEqual(['true', 'false', 'true']);
  });

  it('to somebody who has taken it: told at the next renewal, and competes again', async () => {
    const { server, clock, changes, leads } = await leading();
    server.heldBy('thief');
    await clock.advance(2000);
    expect(changes).toEqual(['true at 0', 'false at 2']);
    await clock.advance(18_000);
    expect(leads()).toBe(true);
  });

  it('a listener that throws stops nothing', async () => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    const us = candidate(server, clock, {
      onChange: () => {
        throw new Error('bug');
      },
    });
    await clock.advance(30_000);
    expect(us.leads()).toBe(true);
  });
});

describe('giving it back', () => {
  it.each([0, 0.5, 0.99])('writes an empty holder for a second, and the next one leads at once', async (random) => {
    const { server, clock, elector, changes, leads } = await leading();
    const next = candidate(server, clock, { identity: 'next', random: () => random });
    await clock.advance(5000);
    await elector.stop();
    expect(leads()).toBe(false);
    expect(changes.at(-1)).toBe('false at 5');
    expect(server.lease?.spec).toMatchObject({ holderIdentity: '', leaseDurationSeconds: 1 });
    expect(await secondsToLead(next, clock)).toBeLessThan(3);
    await elector.stop();
  });

  it('leaves it alone where it is not ours', async () => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    server.heldBy('other');
    const us = candidate(server, clock);
    await clock.advance(3000);
    await us.elector.stop();
    expect(server.lease?.spec.holderIdentity).toBe('other');
    expect(server.requests).not.toContain('PUT');
    expect(clock.pending).toBe(0);
  });

  it('leaves it alone where somebody has taken it meanwhile', async () => {
    const { server, elector } = await leading();
    server.heldBy('other');
    await elector.stop();
    expect(server.lease?.spec.holderIdentity).toBe('other');
  });

  it('is no leader any more from the call on, though the last renewal is still under way', async () => {
    const { server, clock, elector, leads } = await leading();
    let release = (): void => undefined;
    server.fail = () => new Promise((resolve) => (release = resolve));
    await clock.advance(2000);
    const stopped = elector.stop();
    expect(leads()).toBe(false);
    server.fail = null;
    release();
    await stopped;
    await flush();
    expect(server.lease?.spec.holderIdentity).toBe('');
  });
});
