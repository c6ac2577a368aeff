import { describe, expect, it } from 'vitest';
import { DepartedResources } from '../../src/controller/departedResources.ts';
import { refreshPace } from '../../src/controller/refreshPace.ts';
import { RemovalGate } from '../../src/controller/removalGate.ts';
import { RepairBackoff } from '../../src/controller/repairBackoff.ts';
import { resource } from '../core/namespaceWorld.ts';
import { FakeClock } from '../fakeClock.ts';

const DELAY = 5_000;

describe('a resource that is no longer listed', () => {
  const departed = async (settleAfterMs: number, crdUid: string | null) => {
    const clock = new FakeClock();
    const resources = new DepartedResources(clock);
    resources.depart(resource({ name: 'a' }), 'crd-1');
    await clock.advance(settleAfterMs);
    return { resources, deleted: resources.settle(DELAY, crdUid).map(({ name }) => name) };
  };
  it('is held while it is not known what that means', async () => {
    const { resources, deleted } = await departed(DELAY - 1, 'crd-1');
    expect(deleted).toEqual([]);
    expect(resources.held().map(({ name, held }) => [name, held])).toEqual([['a', 'Deleted']]);
    expect(resources.hasUndecided).toBe(true);
  });
  it('is deleted under a steady CRD', async () => {
    const { resources, deleted } = await departed(DELAY, 'crd-1');
    expect(deleted).toEqual(['a']);
    expect(resources.held()).toEqual([]);
  });
  it.each([
    ['is gone or terminating', null],
    ['was replaced by force', 'crd-2'],
  ])('stays held when its CRD %s, until one of its name is back', async (_, uid) => {
    const { resources, deleted } = await departed(DELAY, uid);
    expect(deleted).toEqual([]);
    expect(resources.held().map(({ held }) => held)).toEqual(['VanishedWithCrd']);
    expect(resources.settle(0, 'crd-1')).toEqual([]);
    resources.return('a');
    expect(resources.held()).toEqual([]);
  });
});

describe('a removal', () => {
  const gate = (o: { trusted?: () => boolean; steady?: () => Promise<boolean> } = {}) => {
    const clock = new FakeClock();
    const isViewTrusted = o.trusted ?? (() => true);
    const isCrdSteady = o.steady ?? (() => Promise.resolve(true));
    return { clock, gate: new RemovalGate({ clock, delayMs: DELAY, isViewTrusted, isCrdSteady }) };
  };
  it('waits', async () => {
    const { clock, gate: removals } = gate();
    expect(await removals.mayRemove('a')).toEqual({ mayRemove: false, retryMs: DELAY });
    await clock.advance(2_000);
    expect(await removals.mayRemove('a')).toEqual({ mayRemove: false, retryMs: 3_000 });
    await clock.advance(3_000);
    expect(await removals.mayRemove('a')).toEqual({ mayRemove: true });
  });
  it('waits anew when what it would remove was wanted meanwhile', async () => {
    const { clock, gate: removals } = gate();
    await removals.mayRemove('a');
    await clock.advance(DELAY);
    removals.settled('a');
    expect(await removals.mayRemove('a')).toEqual({ mayRemove: false, retryMs: DELAY });
  });
  it('waits anew when the view was not current meanwhile', async () => {
    let isTrusted = true;
    const { clock, gate: removals } = gate({ trusted: () => isTrusted });
    await removals.mayRemove('a');
    await clock.advance(DELAY - 1_000);
    isTrusted = false;
    await removals.mayRemove('a');
    isTrusted = true;
    expect(await removals.mayRemove('a')).toEqual({ mayRemove: false, retryMs: DELAY });
  });
  it.each([
    ['a view that is not current', { trusted: () => false }],
    ['a CRD that is not steady', { steady: () => Promise.resolve(false) }],
    ['an API server that does not answer', { steady: () => Promise.reject(new Error('cut')) }],
  ])('does not happen on %s', async (_, options) => {
    const { clock, gate: removals } = gate(options);
    await removals.mayRemove('a');
    await clock.advance(DELAY);
    expect(await removals.mayRemove('a')).toMatchObject({ mayRemove: false });
  });
  it('of what is there again after each waits ever longer, but not of what we had put there ourselves', async () => {
    const { clock, gate: removals } = gate();
    const waits = async (before: () => void = () => {}): Promise<number[]> => {
      const times: number[] = [];
      for (let i = 0; i < 12; i++) {
        before();
        const answer = await removals.mayRemove('a');
        const waitMs = answer.mayRemove ? 0 : answer.retryMs;
        times.push(waitMs);
        await clock.advance(waitMs);
        expect(await removals.mayRemove('a')).toEqual({ mayRemove: true });
        removals.removed('a');
      }
      return times;
    };
    const growing = [8_000, 16_000, 32_000, 60_000, 60_000, 60_000];
    expect(await waits()).toEqual([...Array<number>(6).fill(DELAY), ...growing]);
    expect(await waits(() => removals.filled('a'))).toEqual(Array<number>(12).fill(DELAY));
  });
  it('of many namespaces reads the CRD once', async () => {
    let reads = 0;
    const steady = (): Promise<boolean> => {
      reads++;
      return Promise.resolve(true);
    };
    const { gate: removals } = gate({ steady });
    for (let i = 0; i < 1_000; i++) removals.waited(`n${i}`);
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => removals.mayRemove(`n${i}`)));
    expect(reads).toBe(1);
  });
});

describe('repairs', () => {
  it('are immediate at first, then wait up to a minute', async () => {
    const clock = new FakeClock();
    const repairs = new RepairBackoff(clock);
    const delays: number[] = [];
    for (let i = 0; i < 12; i++) {
      const delay = repairs.delayMs('a');
      delays.push(delay);
      await clock.advance(delay);
      repairs.repaired('a');
    }
    expect(delays.slice(0, 5)).toEqual([0, 0, 0, 1_000, 2_000]);
    expect(delays.at(-1)).toBe(60_000);
  });
  it('are immediate again after a calm time', async () => {
    const clock = new FakeClock();
    const repairs = new RepairBackoff(clock);
    for (let i = 0; i < 10; i++) repairs.repaired('a');
    await clock.advance(10 * 60_000);
    expect(repairs.delayMs('a')).toBe(0);
    expect(repairs.repaired('a')).toBe(1);
  });
  it('are only of what was served before', () => {
    const repairs = new RepairBackoff(new FakeClock());
    expect(repairs.isRepair('a')).toBe(false);
    repairs.served('a');
    expect(repairs.isRepair('a')).toBe(true);
    repairs.forget('a');
    expect(repairs.isRepair('a')).toBe(false);
  });
  it('of a namespace that is gone are forgotten, of all that was in it', () => {
    const repairs = new RepairBackoff(new FakeClock());
    const keys = ['a/', 'a/default', 'ab/', 'b/a'];
    for (const key of keys) {
      repairs.served(key);
      for (let i = 0; i < 5; i++) repairs.repaired(key);
    }
    repairs.forgetNamespace('a');
    expect(keys.map((key) => repairs.isRepair(key))).toEqual([false, false, true, true]);
    expect(keys.map((key) => repairs.delayMs(key) > 0)).toEqual([false, false, true, true]);
    expect(keys.map((key) => repairs.repaired(key))).toEqual([1, 1, 6, 6]);
  });
});

describe('the pace of the refresh lane', () => {
  const HOUR = 3_600_000;
  const former = (leftHours: number) => [{ issuedAt: 0, endsAt: 12 * HOUR, now: (12 - leftHours) * HOUR }];
  it.each([
    ['the configured rate', 1_000, 6, 50],
    ['faster where a tenth of the life left would not do', 200_000, 6, 200_000 / 2_160],
    ['as fast as the server takes below a quarter of the life', 1_000, 2.9, Infinity],
  ])('%s', (_, waiting, leftHours, expected) => {
    const [token] = former(leftHours);
    expect(refreshPace(50, { waiting, former: [token!], now: token!.now })).toBeCloseTo(expected);
  });
});
