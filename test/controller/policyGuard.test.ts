import { describe, expect, it } from 'vitest';
import { PolicyGuard } from '../../src/controller/policyGuard.ts';
import { ThrottledError, TransientError } from '../../src/errors.ts';
import { ApiStatusError } from '../../src/kube/apiStatusError.ts';
import type { Logger } from '../../src/observability/log.ts';
import { FakeClock } from '../fakeClock.ts';
import { TestLog } from '../kube/testServer.ts';

const asked = { verb: 'patch', resource: 'secrets', namespace: 'here', name: 'ecr-pull' };
const denial = "ValidatingAdmissionPolicy 'ecr-pull-secrets' with binding 'ecr-pull-secrets' denied request: no";
const answers = {
  denied: new ApiStatusError(asked, { status: 422, reason: 'Invalid', message: '', causes: [{ message: denial }] }),
  invalid: new ApiStatusError(asked, { status: 422, reason: 'Invalid', message: 'field is immutable', causes: [] }),
  forbidden: new ApiStatusError(asked, { status: 403, reason: 'Forbidden', message: 'cannot patch', causes: [] }),
  allowed: null,
  away: new TransientError('Unreachable', 'ECONNREFUSED'),
  busy: new ThrottledError('TooManyRequests', '429', { retryAfterMs: 1_000 }),
};

function guarded(first: keyof typeof answers) {
  const clock = new FakeClock();
  const log = new TestLog();
  const told: boolean[] = [];
  const world = { answer: first, probes: 0 };
  const client = {
    request<T>(): Promise<T> {
      world.probes += 1;
      const error = answers[world.answer];
      return error ? Promise.reject(error) : Promise.resolve(undefined as T);
    },
  };
  const guard = new PolicyGuard({
    ...{ client, clock, log: log as unknown as Logger, namespace: 'here', secretName: 'ecr-pull' },
    onChange: (inForce) => void told.push(inForce),
  });
  const warnings = (): string[] => log.lines.filter(({ level }) => level === 'warn').map(({ message }) => message);
  return { clock, guard, told, world, warnings };
}

describe('the guard of the policy', () => {
  it('waits half a minute for one that is not there, tells of it once, and of its coming', async () => {
    const { clock, guard, told, world, warnings } = guarded('allowed');
    const settled = guard.settle();
    await clock.advance(29_000);
    expect(told).toEqual([]);
    await clock.advance(2_000);
    await settled;
    expect(told).toEqual([false]);
    await clock.advance(60_000);
    expect(warnings()).toEqual([expect.stringContaining('is not in force')]);
    expect(guard.isInForce).toBe(false);
    world.answer = 'denied';
    await clock.advance(5_000);
    expect(told).toEqual([false, true]);
    expect(clock.pending).toBe(0);
  });

  it.each(['away', 'busy'] as const)('knows nothing while the API server is %s, and goes on asking', async (why) => {
    const { clock, guard, told, world, warnings } = guarded(why);
    const settled = guard.settle();
    await clock.advance(31_000);
    await settled; // nothing else waits for it
    await clock.advance(120_000);
    expect(told).toEqual([]);
    expect(guard.isInForce).toBe(true);
    expect(warnings()).toEqual([expect.stringContaining('is not known')]);
    world.answer = 'denied';
    await clock.advance(5_000);
    expect(told).toEqual([true]);
    expect(clock.pending).toBe(0);
  });

  it('tells of one that is missing as soon as the API server is back, in the log too', async () => {
    const { clock, guard, told, world, warnings } = guarded('away');
    void guard.settle();
    await clock.advance(60_000);
    world.answer = 'allowed';
    await clock.advance(5_000);
    expect(told).toEqual([false]);
    expect(warnings().at(-1)).toContain('is not in force');
  });

  it('goes on saying that it is missing while the API server is away', async () => {
    const { clock, guard, told, world } = guarded('allowed');
    void guard.settle();
    await clock.advance(31_000);
    world.answer = 'away';
    await clock.advance(60_000);
    expect(told).toEqual([false]);
    expect(guard.isInForce).toBe(false);
    world.answer = 'denied';
    await clock.advance(5_000);
    expect(told).toEqual([false, true]);
  });

  it.each(['invalid', 'forbidden'] as const)('is not satisfied by what is %s without the policy', async (answer) => {
    const { clock, guard, told, world } = guarded(answer);
    void guard.settle();
    await clock.advance(0);
    expect(world.probes).toBe(2);
    await clock.advance(31_000);
    expect(told).toEqual([false]);
  });

  it('ends with the process, and tells nothing more', async () => {
    const { clock, guard, told, world } = guarded('away');
    const settled = guard.settle();
    await clock.advance(3_000);
    guard.stop();
    await settled;
    const { probes } = world;
    world.answer = 'denied';
    await clock.advance(60_000);
    expect([told, world.probes, clock.pending]).toEqual([[], probes, 0]);
  });
});
