import { describe, expect, test } from 'vitest';
import { nextTick, parseCronSchedule, type CronSchedule } from '../../src/core/cronSchedule.ts';

const DAY = 86_400_000;
const START = new Date('2025-12-31T23:59:59Z');
const END = new Date('2028-01-01T00:00:00Z');

function schedule(expression: string): CronSchedule {
  const parsed = parseCronSchedule(expression);
  if ('whyNot' in parsed) throw new Error(parsed.whyNot);
  return parsed;
}

function ticksOf(expression: string, timeZone: string, from = START, to = END): Date[] {
  const parsed = schedule(expression);
  const ticks: Date[] = [];
  for (let tick = nextTick(parsed, timeZone, from); tick < to; tick = nextTick(parsed, timeZone, tick))
    ticks.push(tick);
  return ticks;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function localOf(date: Date, timeZone: string): string {
  const format =
    formats.get(timeZone) ?? new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' });
  formats.set(timeZone, format);
  return format.format(date);
}

const ZONES = [
  'Europe/Paris',
  'America/New_York',
  'Australia/Lord_Howe',
  'Africa/Casablanca',
  'Asia/Kolkata',
  'America/Santiago',
  'Africa/Cairo',
  'Asia/Beirut',
  'UTC',
];

describe.each(ZONES)('in %s over two years', (timeZone) => {
  test.each(['30 2 * * *', '0 0 * * *', '45 1 * * *', '15 3 * * *'])('%s ticks once on each day', (expression) => {
    const ticks = ticksOf(
      expression,
      timeZone,
      new Date(START.getTime() - 2 * DAY),
      new Date(END.getTime() + 2 * DAY),
    ).filter((tick) => /^202[67]-/.test(localOf(tick, timeZone)));
    const days = ticks.map((tick) => localOf(tick, timeZone).slice(0, 10));
    expect(new Set(days).size).toBe(days.length);
    expect(days.length).toBe(730);
    const [minute = '', hour = ''] = expression.split(' ');
    const clock = `${hour.padStart(2, '0')}:${minute.padStart(2, '0')}`;
    // At its time but on the days whose clocks skip it.
    const late = ticks.filter((tick) => localOf(tick, timeZone).slice(11) !== clock);
    expect(late.length).toBeLessThanOrEqual(4);
    for (const tick of late) expect(localOf(tick, timeZone).slice(11) > clock).toBe(true);
  });

  test('a half-hourly schedule ticks each half an hour, also while the clocks change', () => {
    for (const day of [START.getTime(), ...timesBeforeChange(timeZone, DAY)]) {
      const from = new Date(Math.floor(day / DAY) * DAY - 1);
      const to = new Date(from.getTime() + 3 * DAY);
      const ticks = ticksOf('*/30 * * * *', timeZone, from, to).map((tick) => tick.getTime());
      expect(ticks).toEqual(Array.from({ length: 3 * 48 }, (_, index) => from.getTime() + 1 + index * 30 * 60_000));
    }
  });
});

test('what ticks in Paris and New York on the days that change', () => {
  const around = (expression: string, timeZone: string, day: string): string[] => {
    const from = new Date(Date.parse(day) - DAY / 2);
    return ticksOf(expression, timeZone, from, new Date(from.getTime() + 2 * DAY)).map((tick) =>
      tick.toISOString().slice(5, 16),
    );
  };
  // 02:30 is skipped: 03:30 it is.
  expect(around('30 2 * * *', 'Europe/Paris', '2026-03-29')).toEqual(['03-29T01:30', '03-30T00:30']);
  // 02:30 comes twice: the first one it is.
  expect(around('30 2 * * *', 'Europe/Paris', '2026-10-25')).toEqual(['10-25T00:30', '10-26T01:30']);
  expect(around('30 2 * * *', 'America/New_York', '2026-03-08')).toEqual(['03-08T07:30', '03-09T06:30']);
  expect(around('30 1 * * *', 'America/New_York', '2026-11-01')).toEqual(['11-01T05:30', '11-02T06:30']);
});

test.each([
  ['0 12 13 * 5', ['2026-01-02', '2026-01-09', '2026-01-13', '2026-01-16', '2026-01-23', '2026-01-30', '2026-02-06']], // either day
  ['0 12 * * 7', ['2026-01-04', '2026-01-11']],
  ['0 12 1 */3 *', ['2026-01-01', '2026-04-01', '2026-07-01']],
  ['0 12 29 2 *', ['2028-02-29', '2032-02-29']],
  ['0 12 31 * *', ['2026-01-31', '2026-03-31']],
  ['0 12 5/10 * *', ['2026-01-05', '2026-01-15', '2026-01-25', '2026-02-05']],
  ['0 12 * feb sun-mon', ['2026-02-01', '2026-02-02', '2026-02-08']],
])('%s', (expression, days) => {
  const parsed = schedule(expression);
  let tick = START;
  for (const day of days) {
    tick = nextTick(parsed, 'UTC', tick);
    expect(tick.toISOString()).toBe(`${day}T12:00:00.000Z`);
  }
});

test('fields are read as cron reads them, to the last value', () => {
  expect(schedule('0-58 * * * *').minutes).toHaveLength(59);
  expect(schedule('1-59/2 * * * *').minutes).toHaveLength(30);
  expect(schedule('0 0-22 * * *').hours).toHaveLength(23);
  expect(schedule('0 0 * * 5-7').daysOfWeek).toEqual([0, 5, 6]);
  expect(schedule('0 0 * * 1,sun').daysOfWeek).toEqual([0, 1]);
});

test.each(['30 2 * * *', '0 0 * * *'])(
  'in every zone that Node knows %s ticks once a day around each change of its clocks',
  (expression) => {
    const changes = Intl.supportedValuesOf('timeZone').flatMap((timeZone) =>
      timesBeforeChange(timeZone, 7 * DAY).map((week) => ({ timeZone, week })),
    );
    expect(changes.length).toBeGreaterThan(400);
    for (const { timeZone, week } of changes) {
      const ticks = ticksOf(expression, timeZone, new Date(week), new Date(week + 8 * DAY));
      const days = ticks.map((tick) => localOf(tick, timeZone).slice(0, 10));
      expect([timeZone, new Set(days).size]).toEqual([timeZone, days.length]);
      expect(days.length).toBeGreaterThanOrEqual(7);
      expect(ticks.map(Number)).toEqual(ticks.map(Number).sort((a, b) => a - b));
    }
  },
);

// Times at which, and one step later, a clock on the wall shows different hours.
function timesBeforeChange(timeZone: string, step: number): number[] {
  const times: number[] = [];
  let before = localOf(START, timeZone).slice(11);
  for (let time = START.getTime(); time < END.getTime(); time += step) {
    const now = localOf(new Date(time + step), timeZone).slice(11);
    if (now !== before) times.push(time);
    before = now;
  }
  return times;
}
