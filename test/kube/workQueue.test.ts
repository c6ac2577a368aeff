import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { WorkQueue, type Lane, type WorkItem } from '../../src/kube/workQueue.ts';
import { FakeClock, flush } from '../fakeClock.ts';

function queueAt(rate: number | (() => number) = Infinity): {
  queue: WorkQueue;
  clock: FakeClock;
  take: () => Promise<WorkItem | null>;
} {
  const clock = new FakeClock();
  const queue = new WorkQueue({ clock, refreshPerSecond: typeof rate === 'number' ? () => rate : rate });
  const { signal } = new AbortController();
  return { queue, clock, take: () => queue.take(signal) };
}

async function settled<T>(promise: Promise<T>): Promise<T | 'waiting'> {
  let value: T | 'waiting' = 'waiting';
  void promise.then((result) => (value = result));
  await flush();
  return value;
}

describe('WorkQueue', () => {
  it('holds a key once, and gives it once more where it was added while worked on', async () => {
    const { queue, take } = queueAt();
    queue.add('a', 'urgent');
    queue.add('a', 'urgent');
    expect(await take()).toEqual({ key: 'a', lane: 'urgent' });
    queue.add('a', 'refresh');
    queue.add('a', 'refresh');
    const next = take();
    expect(await settled(next)).toBe('waiting');
    queue.done('a');
    expect(await next).toEqual({ key: 'a', lane: 'refresh' });
    queue.done('a');
    expect(queue.depth('urgent') + queue.depth('refresh')).toBe(0);
  });

  it('looks at a key that waits to refresh when its turn there comes', async () => {
    const { queue, take } = queueAt(1_000);
    queue.add('a', 'refresh');
    queue.lookAt('a');
    queue.lookAt('b');
    expect([queue.depth('urgent'), queue.depth('refresh')]).toEqual([1, 1]);
    expect([await take(), await take()]).toEqual([
      { key: 'b', lane: 'urgent' },
      { key: 'a', lane: 'refresh' },
    ]);
  });

  it('moves a key that waits to refresh into the urgent lane, never back', async () => {
    const { queue, take } = queueAt();
    for (const key of ['a', 'b', 'c']) queue.add(key, 'refresh');
    queue.add('c', 'urgent');
    queue.add('c', 'refresh');
    expect([queue.depth('urgent'), queue.depth('refresh')]).toEqual([1, 2]);
    expect(await take()).toEqual({ key: 'c', lane: 'urgent' });
    expect(await take()).toEqual({ key: 'a', lane: 'refresh' });
    queue.add('a', 'refresh');
    queue.add('a', 'urgent');
    queue.done('a');
    expect(await take()).toEqual({ key: 'a', lane: 'urgent' });
  });

  it('starves no refresh', async () => {
    const { queue, take } = queueAt();
    for (let i = 0; i < 20; i++) queue.add(`u${i}`, 'urgent');
    for (let i = 0; i < 3; i++) queue.add(`r${i}`, 'refresh');
    const lanes = [];
    for (let i = 0; i < 16; i++) lanes.push((await take())?.lane);
    expect(lanes.filter((lane) => lane === 'refresh')).toHaveLength(2);
    expect(lanes.slice(0, 7)).not.toContain('refresh');
  });

  it('wakes those who wait in the order in which they came', async () => {
    const { queue, take } = queueAt();
    const waiting = [take(), take()];
    queue.add('a', 'urgent');
    queue.add('b', 'urgent');
    expect((await Promise.all(waiting)).map((item) => item?.key)).toEqual(['a', 'b']);
  });

  it('gives null to who is stopped, and no key is lost with him', async () => {
    const { queue, take } = queueAt();
    const stop = new AbortController();
    const stopped = queue.take(stop.signal);
    stop.abort();
    expect(await stopped).toBeNull();
    expect(await queue.take(AbortSignal.abort())).toBeNull();
    queue.add('a', 'urgent');
    expect(await take()).toEqual({ key: 'a', lane: 'urgent' });
  });

  it('tells how long the first one has waited', async () => {
    const { queue, clock } = queueAt(0);
    expect(queue.oldestMs('refresh')).toBe(0);
    queue.add('a', 'refresh');
    await clock.advance(300);
    queue.add('b', 'refresh');
    expect(queue.oldestMs('refresh')).toBe(300);
  });

  it('clears what waits, and keeps what is worked on', async () => {
    const { queue, clock, take } = queueAt();
    queue.add('a', 'urgent');
    await take();
    queue.add('a', 'urgent');
    queue.add('b', 'refresh');
    queue.addAfter('c', 'urgent', 1000);
    queue.clear();
    const next = take();
    queue.done('a');
    await clock.advance(2000);
    expect(await settled(next)).toBe('waiting');
  });
});

describe('delays', () => {
  it('the earliest wins, and the stronger lane', async () => {
    const { queue, clock, take } = queueAt();
    queue.addAfter('a', 'refresh', 5000);
    queue.addAfter('a', 'urgent', 9000);
    queue.addAfter('b', 'urgent', 5000);
    queue.addAfter('b', 'urgent', 1000);
    const first = take();
    await clock.advance(999);
    expect(await settled(first)).toBe('waiting');
    await clock.advance(1);
    expect(await first).toEqual({ key: 'b', lane: 'urgent' });
    await clock.advance(4000);
    expect(await take()).toEqual({ key: 'a', lane: 'urgent' });
    expect(clock.pending).toBe(0);
  });

  it('of failures double to 45 s, until one goes well', () => {
    const { queue } = queueAt();
    expect(Array.from({ length: 8 }, () => queue.retry('a', 'urgent'))).toEqual(
      [1, 2, 4, 8, 16, 32, 45, 45].map((s) => s * 1000),
    );
    expect(queue.retry('b', 'urgent')).toBe(1000);
    queue.forget('a');
    expect(queue.retry('a', 'urgent')).toBe(1000);
  });

  it('of ten minutes of failures are no more than twenty tries: a quota counts each', () => {
    const { queue } = queueAt();
    let tries = 1;
    for (let at = queue.retry('a', 'urgent'); at < 600_000; at += queue.retry('a', 'urgent')) tries += 1;
    expect(tries).toBeLessThanOrEqual(20);
  });

  it('of many failures stay finite', () => {
    const { queue } = queueAt();
    for (let i = 0; i < 2000; i++) expect(queue.retry('a', 'urgent')).toBeLessThanOrEqual(45_000);
  });
});

describe('the pace of the refresh lane', () => {
  async function drain(queue: WorkQueue, take: () => Promise<WorkItem | null>, onItem: () => void): Promise<void> {
    for (let item = await take(); item !== null; item = await take()) {
      onItem();
      queue.done(item.key);
    }
  }

  it.each([50, 20, 5, 0.5])('%d a second, smoothly, also after a pause', async (rate) => {
    const { queue, clock, take } = queueAt(rate);
    const times: number[] = [];
    await clock.advance(60_000);
    for (let i = 0; i < 400; i++) queue.add(`k${i}`, 'refresh');
    void drain(queue, take, () => times.push(clock.monotonic()));
    await clock.advance(4000);
    const seconds = 4;
    expect(times.length).toBeGreaterThanOrEqual(Math.floor(rate * seconds * 0.95));
    expect(times.length).toBeLessThanOrEqual(rate * seconds + Math.max(1, rate / 10));
    const most = Math.max(...times.map((at) => times.filter((other) => other >= at && other < at + 100).length));
    expect(most).toBeLessThanOrEqual(Math.max(1, rate / 10) + Math.ceil(rate / 10));
  });

  it('never holds what is urgent', async () => {
    const { queue, take } = queueAt(0);
    for (let i = 0; i < 50; i++) queue.add(`r${i}`, 'refresh');
    for (let i = 0; i < 50; i++) queue.add(`u${i}`, 'urgent');
    for (let i = 0; i < 50; i++) expect((await take())?.lane).toBe('urgent');
    expect(await settled(take())).toBe('waiting');
  });

  it('is read anew: a raised one is seen within a second', async () => {
    let rate = 0;
    const { queue, clock, take } = queueAt(() => rate);
    let taken = 0;
    for (let i = 0; i < 30; i++) queue.add(`k${i}`, 'refresh');
    void drain(queue, take, () => (taken += 1));
    await clock.advance(10_000);
    expect(taken).toBeLessThanOrEqual(1);
    rate = Infinity;
    await clock.advance(1000);
    expect(taken).toBe(30);
  });
});

it('never gives a key to two workers, and loses none', async () => {
  const key = fc.constantFrom('a', 'b', 'c', 'd');
  const lane = fc.constantFrom<Lane>('urgent', 'refresh');
  const step = fc.oneof(
    fc.record({ kind: fc.constant('add' as const), key, lane }),
    fc.record({ kind: fc.constant('later' as const), key, lane, ms: fc.nat(3000) }),
    fc.record({ kind: fc.constant('retry' as const), key, lane }),
    fc.record({ kind: fc.constant('done' as const), index: fc.nat() }),
    fc.record({ kind: fc.constant('advance' as const), ms: fc.nat(2000) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 3 }), async (steps, workers) => {
      const clock = new FakeClock();
      const queue = new WorkQueue({ clock, refreshPerSecond: () => 20 });
      const stop = new AbortController();
      const working: string[] = [];
      const due = new Map<string, number>(); // keys whose last add no run has begun after, and when they are due
      const finishers: (() => void)[] = [];
      const worker = async (): Promise<void> => {
        for (let item = await queue.take(stop.signal); item !== null; item = await queue.take(stop.signal)) {
          const { key } = item;
          expect(working).not.toContain(key);
          working.push(key);
          due.delete(key);
          await new Promise<void>((resolve) => finishers.push(resolve));
          working.splice(working.indexOf(key), 1);
          queue.done(key);
        }
      };
      const all = Array.from({ length: workers }, worker);
      for (const each of steps) {
        if (each.kind === 'add') {
          due.set(each.key, 0);
          queue.add(each.key, each.lane);
        } else if (each.kind === 'later') {
          due.set(each.key, 0);
          queue.addAfter(each.key, each.lane, each.ms);
        } else if (each.kind === 'retry') {
          due.set(each.key, 0);
          queue.retry(each.key, each.lane);
        } else if (each.kind === 'done') finishers.splice(each.index % Math.max(1, finishers.length), 1)[0]?.();
        else await clock.advance(each.ms);
        await flush(); // a worker that was given a key has begun before the next step
      }
      for (let turn = 0; turn < 100 && (due.size > 0 || finishers.length > 0); turn++) {
        for (const finish of finishers.splice(0)) finish();
        await clock.advance(1000);
      }
      stop.abort();
      await Promise.all(all);
      expect([...due.keys()]).toEqual([]);
      expect(queue.depth('urgent') + queue.depth('refresh')).toBe(0);
    }),
    { numRuns: 150 },
  );
});
