import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { endOfLife, nextRefresh, retryDelay, whyScheduleIsWrong } from '../../src/core/refreshTime.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const ISSUED = new Date('2026-11-25T00:00:00Z');
const after = (ms: number): Date => new Date(ISSUED.getTime() + ms);

describe('endOfLife', () => {
  const end = (expiresIn: number, sessionEndsIn: number | null, outliveSession = false) =>
    endOfLife({
      issuedAt: ISSUED,
      expiresAt: after(expiresIn),
      sessionEndsAt: sessionEndsIn === null ? null : after(sessionEndsIn),
      outliveSession,
    });

  test('is when the token expires', () => {
    expect(end(12 * HOUR, null)).toEqual({ endOfLife: after(12 * HOUR), note: null });
  });

  test('is when its session ends, unless it outlives that', () => {
    expect(end(12 * HOUR, HOUR).endOfLife).toEqual(after(HOUR));
    expect(end(12 * HOUR, HOUR, true).endOfLife).toEqual(after(12 * HOUR));
    expect(end(12 * HOUR, -HOUR, true).endOfLife).toEqual(after(12 * HOUR));
  });

  test('is 12 h at most, with a note', () => {
    const life = end(60 * 24 * HOUR, null);
    expect(life.endOfLife).toEqual(after(12 * HOUR));
    expect(life.note).toContain('12 h');
  });

  test('is 12 h without a note where it is longer by what an answer takes, and by the rounding of its Date', () => {
    expect(end(12 * HOUR + 999, null)).toEqual({ endOfLife: after(12 * HOUR), note: null });
  });

  test.each([-1, 0, -11 * 365 * 24 * HOUR, Number.NaN])('is refused in the past (%i ms)', (ms) => {
    expect(() => end(ms, null)).toThrow('of no use');
    expect(() => end(12 * HOUR, ms)).toThrow('of no use');
  });

  test('in the past is told with its time: who reads it sees whose clock is wrong', () => {
    const token = { issuedAt: new Date('2026-11-25T01:02:03Z'), expiresAt: new Date('2015-01-01T00:00:00Z') };
    expect(() => endOfLife({ ...token, sessionEndsAt: null, outliveSession: false })).toThrow(
      "AWS gave a token that is of no use: it expired at 2015-01-01T00:00:00Z, and the token was given out at 2026-11-25T01:02:03Z by the answer's own Date; look at the clock of whoever answers for AWS (an emulator's tokens may be like that)",
    );
  });
});

describe('nextRefresh', () => {
  const next = (o: Partial<Parameters<typeof nextRefresh>[0]>): Date =>
    nextRefresh({
      issuedAt: ISSUED,
      endOfLife: after(12 * HOUR),
      schedules: [],
      random: () => 0,
      lastAttemptAt: ISSUED,
      ...o,
    });
  const cron = (expression: string, timeZone = 'UTC') => ({ schedules: [{ expression, timeZone }] });

  test('is half of the life, or up to a twentieth of it earlier', () => {
    expect(next({})).toEqual(after(6 * HOUR));
    expect(next({ random: () => 1 })).toEqual(after(6 * HOUR - 36 * MINUTE));
  });

  test('is brought forward by a tick, up to a minute after it', () => {
    expect(next(cron('0 */4 * * *'))).toEqual(after(4 * HOUR));
    expect(next({ ...cron('0 */4 * * *'), random: () => 0.5 })).toEqual(after(4 * HOUR + MINUTE / 2));
    expect(next(cron('0 5 * * *', 'Europe/Paris'))).toEqual(after(4 * HOUR));
    expect(next({ schedules: [...cron('0 5 * * *').schedules, ...cron('0 3 * * *').schedules] })).toEqual(
      after(3 * HOUR),
    );
  });

  test('is never put off by a tick', () => {
    expect(next(cron('0 3 1 1 *'))).toEqual(after(6 * HOUR));
    expect(next({ schedules: [{ expression: 'nonsense', timeZone: 'UTC' }] })).toEqual(after(6 * HOUR));
  });

  test('is not within a 24th of the life, however often the schedule ticks', () => {
    expect(next(cron('* * * * *'))).toEqual(after(31 * MINUTE));
    expect(next(cron('10 * * * *'))).toEqual(after(HOUR + 10 * MINUTE));
  });

  test('is not within 10 s of the last attempt, however short the life', () => {
    expect(next({ endOfLife: after(4_000) })).toEqual(after(10_000));
    expect(next({ endOfLife: after(60_000) })).toEqual(after(30_000));
  });
});

describe('retryDelay', () => {
  const delays = (lifeLeftMs: number, random = () => 1): number[] =>
    [1, 2, 3, 4, 5, 6, 7, 2000].map((attempt) => retryDelay({ attempt, lifeLeftMs, random }) / 1000);

  test('is 10 s, doubling to 5 min', () => {
    expect(delays(12 * HOUR)).toEqual([10, 20, 40, 80, 160, 300, 300, 300]);
    expect(delays(12 * HOUR, () => 0)).toEqual([10, 16, 32, 64, 128, 240, 240, 240]);
  });

  test('is a quarter of the life that is left at most', () => {
    expect(delays(4 * MINUTE)).toEqual([10, 20, 40, 60, 60, 60, 60, 60]);
  });

  test('is 30 s at most where no token is alive', () => {
    expect(delays(0)).toEqual([10, 20, 30, 30, 30, 30, 30, 30]);
  });

  test('is 10 s at least where hardly any life is left', () => {
    expect(delays(12_000)).toEqual([10, 10, 10, 10, 10, 10, 10, 10]);
  });
});

test('whatever AWS says, two refreshes of a token are 10 s apart, and a good token is renewed before its end', () => {
  const life = fc.integer({ min: -11 * 365 * 24 * HOUR, max: 13 * HOUR });
  const schedule = fc.constantFrom('* * * * *', '*/5 * * * *', '0 */4 * * *', '0 3 1 1 *');
  fc.assert(
    fc.property(
      life,
      fc.option(life),
      fc.boolean(),
      fc.option(schedule),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (...input) => {
        const [expiresIn, sessionEndsIn, outliveSession, expression, random] = input;
        const token = {
          issuedAt: ISSUED,
          expiresAt: after(expiresIn),
          sessionEndsAt: sessionEndsIn === null ? null : after(sessionEndsIn),
          outliveSession,
        };
        const end = endOr(token);
        fc.pre(end !== null);
        const schedules = expression === null ? [] : [{ expression, timeZone: 'Europe/Paris' }];
        const next = nextRefresh({ ...token, endOfLife: end, schedules, random: () => random, lastAttemptAt: ISSUED });
        const wait = next.getTime() - ISSUED.getTime();
        const lived = end.getTime() - ISSUED.getTime();
        expect(wait).toBeGreaterThanOrEqual(Math.max(10_000, lived / 24));
        expect(wait).toBeLessThanOrEqual(Math.max(10_000, lived / 2));
      },
    ),
    { numRuns: 500 },
  );
});

function endOr(token: Parameters<typeof endOfLife>[0]): Date | null {
  try {
    return endOfLife(token).endOfLife;
  } catch {
    return null; // as a failed refresh it waits for retryDelay, 10 s at least
  }
}

test.each([
  ['0 */4 * * *', 'Europe/Paris', null],
  ['*/1 * * * *', undefined, null],
  ['0 0 29 2 *', undefined, null],
  ['0 0 31 2 1', undefined, null],
  ['30 2 * jan-mar mon-fri', 'UTC', null],
  ['* * * * * *', undefined, 'five fields.*seconds'],
  ['@daily', undefined, 'five fields'],
  ['', undefined, 'five fields'],
  ['0 0 31 2 *', undefined, 'never comes'],
  ['0 0 31 4,6,9,11 *', undefined, 'never comes'],
  ['61 * * * *', undefined, 'not a cron expression'],
  ['jan * * * *', undefined, 'not a cron expression'],
  ['0 0 * * foo', undefined, 'not a cron expression'],
  ['*/0 * * * *', undefined, 'not a cron expression'],
  ['0 0 * * *', 'Europe/Pariss', 'Europe/Pariss'],
  [undefined, 'Europe/Pariss', 'Europe/Pariss'],
  [undefined, undefined, null],
  ['0 0 * * *', '', 'time zone'],
])('whyScheduleIsWrong(%j, %j)', (expression, timeZone, why) => {
  const reason = whyScheduleIsWrong(expression, timeZone);
  expect(reason ?? 'right').toMatch(new RegExp(why ?? '^right$'));
});
