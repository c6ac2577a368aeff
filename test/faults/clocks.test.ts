import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ApiServerProxy } from '../cluster/apiServerProxy.ts';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { askForRefresh, waitForCondition } from '../cluster/served.ts';
import { Endurance, type Begin } from './endure.ts';
import { leasePath, Night } from './night.ts';
import { agedCertificate, ShiftedClock } from './shiftedClock.ts';

// Wall clocks that are wrong, while the monotonic ones go on. AWS refuses what is signed more than five minutes off.

const whyNot = ShiftedClock.whyNot();
if (whyNot !== null) console.log(`skipped: ${whyNot}`);
const hour = 3_600; // s
const minute = 60;

let night: Night;
let endurance: Endurance;
let clocks: ShiftedClock[];
const clockOf = new Map<ApiServerProxy, ShiftedClock>();

beforeAll(async () => {
  if (whyNot !== null) return;
  night = await Night.begin({ prepare: agedCertificate });
  night.ecr.oldestSignatureMs = 5 * minute * 1_000;
  clocks = [1, 2].map((number) => new ShiftedClock(join(night.cluster.dir, `clock-${number}`)));
  let started = 0;
  night.usual = () => {
    const clock = clocks[started++ % clocks.length];
    const prepare = (proxy: ApiServerProxy) => void (clock && clockOf.set(proxy, clock));
    return { prepare, env: { ...clock?.env, TZ: 'Europe/Berlin' } };
  };
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

/** Of both, or of the leader and the other one. */
async function shifted(leading: number, following = leading): Promise<() => void> {
  const leader = leading === following ? null : clockOf.get((await night.leader()).proxy);
  for (const clock of clocks) clock.shift(clock === leader ? leading : following);
  await everyClockIsSeen();
  return () => {
    for (const clock of clocks) clock.shift(0);
  };
}

/** Every replica that runs goes by its clock: it tells so itself, once a second. */
async function everyClockIsSeen(): Promise<void> {
  await eventually('every replica shows its clock', () => {
    const wrong = night.replicas.filter(
      ({ proxy, vitals }) => !clockOf.get(proxy)?.isShownBy(vitals().at(-1)?.wallMs ?? NaN),
    );
    if (wrong.length === 0) return true;
    throw new Error(
      wrong.map(({ operator, vitals }) => `${operator.process.name} shows ${vitals().at(-1)?.wallMs}`).join(),
    );
  });
}

async function leaseNow(): Promise<{ holderIdentity: string; leaseTransitions: number }> {
  const lease = await night.admin.get<KubeObject & { spec: { holderIdentity: string; leaseTransitions: number } }>(
    leasePath,
  );
  if (lease === null) throw new Error('there is no lease');
  return { holderIdentity: lease.spec.holderIdentity, leaseTransitions: lease.spec.leaseTransitions };
}

/** No token is thought to have ended, nor is one that is good told to be bad. */
async function expectGoodTokens(): Promise<void> {
  await waitForCondition(night.admin, 'Refreshed', ({ status }) => status === 'True', { timeoutMs: 5_000 });
  for (const { operator } of night.replicas) {
    expect(operator.logs(({ message }) => /expired/.test(message)).map(({ message }) => message)).toEqual([]);
  }
}

/** Somebody asks for a fresh token, and every namespace gets it. */
async function refresh(): Promise<void> {
  await night.ecr.rested();
  const { length } = night.ecr.issued;
  await askForRefresh(night.admin);
  await eventually('there is a fresh token', () => night.ecr.issued.length > length, 30_000);
  await night.whole(endurance.namespaces);
}

const offsets: [string, number][] = [
  ['three hours ahead', 3 * hour],
  ['three hours behind', -3 * hour],
];

describe.skipIf(whyNot !== null)('while the clock of the operator', () => {
  const jumps: [string, number][] = [
    ['three hours ahead', 3 * hour],
    ['three hours back', -3 * hour],
    ['an hour ahead, as summer time begins on a clock that is kept by local time', hour],
    ['an hour back, as summer time ends on such a clock', -hour],
  ];
  test.each(isLong ? jumps : jumps.slice(0, 2))('jumps %s and returns, nobody else leads', async (_, seconds) => {
    await night.leader();
    const before = await leaseNow();
    const during = () => expectGoodTokens();
    const begin: Begin = () => shifted(seconds);
    expect(await endurance.under(begin, { lastsMs: scaled(60_000, 6_000), during })).toEqual([]);
    expect(await leaseNow()).toEqual(before);
  });

  test.runIf(isLong)('runs at half the pace, and then at double, nobody else leads', async () => {
    const before = await leaseNow();
    const begin: Begin = () => {
      const begun = performance.now();
      const timer = setInterval(() => {
        const passed = (performance.now() - begun) / 1_000;
        const offset = passed < 30 ? -passed / 2 : passed - 45;
        for (const clock of clocks) clock.shift(Math.round(offset));
      }, 500);
      return () => {
        clearInterval(timer);
        for (const clock of clocks) clock.shift(0);
      };
    };
    const during = async () => {
      await sleep(25_000); // it is 12 s behind
      await everyClockIsSeen();
    };
    expect(await endurance.under(begin, { lastsMs: 60_000, during })).toEqual([]);
    expect(await leaseNow()).toEqual(before);
  });
});

describe.skipIf(whyNot !== null)('while the clocks of two replicas', () => {
  test.each<[string, number, number]>([
    ['six hours behind', -3 * hour, 3 * hour],
    ['six hours ahead of', 3 * hour, -3 * hour],
  ])('differ, the leader is %s the other one, nobody takes its lease', async (_, leading, following) => {
    await night.leader();
    const before = await leaseNow();
    // Longer than a lease: by the other's clock it ended long ago, or will not for hours.
    const begin: Begin = () => shifted(leading, following);
    expect(await endurance.under(begin, { lastsMs: scaled(60_000, 18_000), during: expectGoodTokens })).toEqual([]);
    expect(await leaseNow()).toEqual(before);
  });

  test('differ by six hours, a dead leader is followed within its lease and by one', async () => {
    const begin: Begin = async () => {
      const back = await shifted(3 * hour, -3 * hour);
      await sleep(4_000); // it is renewed by that clock
      await (await night.leader()).operator.kill();
      return back;
    };
    const during = async () => void (await night.leader());
    expect(await endurance.under(begin, { lastsMs: 1_000, during })).toEqual([]);
    await night.startReplica();
  });
});

// Last, as a fresh token brings AWS' own time with it: by that and a clock that jumps back afterwards, three hours are six.
describe.skipIf(whyNot !== null)('while the clock of the operator', () => {
  test.each(offsets)('is %s from its start, it serves, keeps its tokens, and gets fresh ones', async (_, seconds) => {
    await expectGoodTokens();
    const begin: Begin = async (night) => {
      await night.killAll();
      const back = await shifted(seconds);
      await Promise.all([night.startReplica(), night.startReplica()]);
      await everyClockIsSeen();
      return back;
    };
    const during = async () => {
      await expectGoodTokens();
      expect(night.ecr.calls.length).toBe(calls);
      await refresh();
      expect(night.ecr.calls.slice(calls).map(({ status }) => status)).toEqual([400, 200]);
    };
    const calls = night.ecr.calls.length;
    // Once the signature is refused, and signed anew by AWS' own clock.
    expect(await endurance.under(begin, { lastsMs: 3_000, during, calls: 2 })).toEqual([]);
  });
});

test.skipIf(whyNot !== null)('afterwards nothing is written, and AWS is left alone', async () => {
  const calls = night.ecr.calls.length;
  expect(await endurance.quiet()).toEqual([]);
  expect(night.ecr.calls.length).toBe(calls);
});
