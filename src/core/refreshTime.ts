import type { Random } from '../clock.ts';
import { ConfigurationError } from '../errors.ts';
import { isTimeZone, nextTick, parseCronSchedule } from './cronSchedule.ts';

/** Two refreshes of one token are never closer, whatever the input: no input makes a hot loop. */
export const SHORTEST_INTERVAL_MS = 10_000;

const LONGEST_LIFE_MS = 12 * 3_600_000; // what ECR gives
// The Date of an answer is in whole seconds, and not of the moment in which the token was made.
const LIFE_GRAIN_MS = 60_000;
const LONGEST_RETRY_MS = 5 * 60_000;
const LONGEST_RETRY_WITHOUT_TOKEN_MS = 30_000;
const TICK_SPREAD_MS = 60_000;

export interface Life {
  readonly endOfLife: Date; // on the server's clock
  readonly note: string | null;
}

/**
 * When a token's life ends: at `expiresAt` or with the session that asked for it, whichever is first, and after 12 h
 * at the latest. All on the server's clock. A life that is over as it begins is an error: refreshing at once would
 * give the same.
 */
export function endOfLife(token: {
  issuedAt: Date;
  expiresAt: Date;
  sessionEndsAt: Date | null;
  outliveSession: boolean;
}): Life {
  const { issuedAt, expiresAt, sessionEndsAt, outliveSession } = token;
  const issued = issuedAt.getTime();
  const session = outliveSession || sessionEndsAt === null ? Infinity : sessionEndsAt.getTime();
  const end = Math.min(expiresAt.getTime(), session);
  if (!(end > issued)) {
    const what = session <= issued ? 'the session that asked for it ended' : 'it expired';
    const times = `${what} at ${told(end)}, and the token was given out at ${told(issued)} by the answer's own Date`;
    throw new ConfigurationError(
      'ExpiredOnArrival',
      `AWS gave a token that is of no use: ${times}; look at the clock of whoever answers for AWS (an emulator's tokens may be like that)`,
    );
  }
  const isTooLong = end - issued > LONGEST_LIFE_MS + LIFE_GRAIN_MS;
  return {
    endOfLife: new Date(Math.min(end, issued + LONGEST_LIFE_MS)),
    note: isTooLong ? 'the token claims to live above 12 h: 12 h are counted' : null,
  };
}

function told(ms: number): string {
  return Number.isNaN(ms) ? 'no time' : `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** A cron expression, and where its local time is. */
export interface RefreshSchedule {
  readonly expression: string;
  readonly timeZone: string;
}

/**
 * When a token is to be refreshed: at half of its life (up to 5% of the life earlier, so that many do not ask together),
 * or up to a minute after the first tick of a schedule, whichever is first. Ticks within a 24th of the life are passed
 * over: a minutely schedule costs 24 calls a life at most.
 */
export function nextRefresh(o: {
  issuedAt: Date;
  endOfLife: Date;
  schedules: readonly RefreshSchedule[];
  random: Random;
  lastAttemptAt: Date | null; // on the server's clock, as all of these
}): Date {
  const issued = o.issuedAt.getTime();
  const life = Math.min(o.endOfLife.getTime() - issued, LONGEST_LIFE_MS);
  const earliest = Math.max(issued + life / 24, (o.lastAttemptAt?.getTime() ?? -Infinity) + SHORTEST_INTERVAL_MS);
  const half = issued + life / 2 - life * 0.05 * o.random();
  const spread = TICK_SPREAD_MS * o.random();
  const ticks = o.schedules.map((schedule) => tickOf(schedule, new Date(issued + life / 24)) + spread);
  return new Date(Math.max(earliest, Math.min(half, ...ticks)));
}

/**
 * How long to wait after a failed refresh, ms: 10 s, doubling to 5 min, with jitter; not beyond a quarter of the life
 * that is left, nor beyond 30 s where no token is alive (`lifeLeftMs` is 0 then). Never below 10 s, whatever is left.
 */
export function retryDelay(o: {
  attempt: number /* 1 after the first failure */;
  lifeLeftMs: number;
  random: Random;
}): number {
  const doubled = Math.min(SHORTEST_INTERVAL_MS * 2 ** Math.min(o.attempt - 1, 10), LONGEST_RETRY_MS);
  const jittered = doubled * (0.8 + 0.2 * o.random());
  const longest = o.lifeLeftMs > 0 ? o.lifeLeftMs / 4 : LONGEST_RETRY_WITHOUT_TOKEN_MS;
  return Math.max(SHORTEST_INTERVAL_MS, Math.min(jittered, longest));
}

/** null, or why `schedule` and `timeZone` are refused. */
export function whyScheduleIsWrong(expression: string | undefined, timeZone = 'UTC'): string | null {
  const schedule = expression === undefined ? null : parseCronSchedule(expression);
  if (schedule && 'whyNot' in schedule) return `schedule: ${schedule.whyNot}`;
  return isTimeZone(timeZone) ? null : `timeZone: ${JSON.stringify(timeZone)} is not a time zone like Europe/Paris`;
}

function tickOf({ expression, timeZone }: RefreshSchedule, after: Date): number {
  const schedule = parseCronSchedule(expression);
  // Refused where the resource is read; a bound that is not there holds nothing up.
  if ('whyNot' in schedule || !isTimeZone(timeZone)) return Infinity;
  return nextTick(schedule, timeZone, after).getTime();
}
