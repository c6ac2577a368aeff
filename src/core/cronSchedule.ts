import { CronTime } from 'cron';

/** A cron expression of five fields, read. */
export interface CronSchedule {
  readonly minutes: readonly number[]; // ascending, as all of these
  readonly hours: readonly number[];
  readonly daysOfMonth: readonly number[];
  readonly months: readonly number[]; // 1 is January
  readonly daysOfWeek: readonly number[]; // 0 is Sunday
}

/**
 * Reads an expression of five fields: `cron` says whether it is one, the fields are then expanded here, as CronTime
 * keeps its own to itself.
 */
export function parseCronSchedule(expression: string): CronSchedule | { whyNot: string } {
  const fields = expression.trim().split(/\s+/);
  if (fields.length !== 5 || expression.length > LONGEST_EXPRESSION) {
    const seconds = fields.length === 6 ? '; a sixth, for seconds, is not supported' : '';
    return { whyNot: `must have five fields: minute, hour, day of month, month, day of week${seconds}` };
  }
  const { valid, error } = CronTime.validateCronExpression(expression.trim());
  if (!valid) return { whyNot: `not a cron expression: ${error?.message ?? 'it cannot be read'}` };
  const values = FIELDS.map((field, index) => expand(fields[index] ?? '', field));
  // cron takes the names of months and days in every field, and within numbers.
  if (values.some(({ length }) => length === 0)) {
    return { whyNot: 'not a cron expression: names are for months and days of the week alone' };
  }
  const schedule = scheduleOf(values);
  return isEverDue(schedule) ? schedule : { whyNot: 'never comes: no such day is in the calendar' };
}

/**
 * The first tick later than `after`. A local time that clocks skip in spring counts at what they then show (02:30 is
 * 03:30), one that they pass twice in autumn counts the first time; only a schedule of every hour counts both. So a
 * daily schedule has one tick on each day. cron's own getNextDateFrom is wrong around these changes, and throws where
 * no such date exists.
 */
export function nextTick(schedule: CronSchedule, timeZone: string, after: Date): Date {
  const start = localMidnight(after.getTime() + offsetOf(timeZone, after.getTime()));
  // A day earlier: a skipped time may lie on the next one.
  for (let day = -1; day < LONGEST_WAIT_DAYS; day++) {
    const midnight = start + day * DAY_MS;
    if (!isDayOf(schedule, new Date(midnight))) continue;
    const tick = firstTickOfDay(schedule, timeZone, { midnight, after: after.getTime() });
    if (tick !== null) return new Date(tick);
  }
  throw new RangeError('a schedule that never comes is refused by parseCronSchedule');
}

/** Whether Node knows the time zone. */
export function isTimeZone(timeZone: string): boolean {
  try {
    formatOf(timeZone);
    return true;
  } catch {
    return false;
  }
}

const LONGEST_EXPRESSION = 200; // characters
const DAY_MS = 86_400_000;
const LONGEST_WAIT_DAYS = 9 * 366; // for 29 February across a year like 2100

interface Field {
  readonly low: number;
  readonly high: number;
  readonly names?: readonly string[];
}

const MONTHS = ['', 'jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const FIELDS: readonly Field[] = [
  { low: 0, high: 59 },
  { low: 0, high: 23 },
  { low: 1, high: 31 },
  { low: 1, high: 12, names: MONTHS },
  { low: 0, high: 7, names: DAYS },
];

function scheduleOf(values: readonly (readonly number[])[]): CronSchedule {
  const [minutes = [], hours = [], daysOfMonth = [], months = [], daysOfWeek = []] = values;
  return { minutes, hours, daysOfMonth, months, daysOfWeek };
}

// The values of a field that cron takes, ascending; [] where it has words that it should not have.
function expand(text: string, field: Field): number[] {
  const values = new Set(
    text
      .toLowerCase()
      .split(',')
      .flatMap((part) => expandPart(part, field)),
  );
  if (values.has(Number.NaN)) return [];
  // 7 is Sunday too.
  if (field.high === 7 && values.delete(7)) values.add(0);
  return [...values].sort((a, b) => a - b);
}

function expandPart(part: string, { low, high, names }: Field): number[] {
  const number = (word: string): number => (names?.includes(word) ? names.indexOf(word) : Number(word));
  const [range = '', step] = part.split('/');
  const [first = '', last] = range.split('-');
  const start = range === '*' ? low : number(first);
  const openEnd = range === '*' || step !== undefined ? high : start;
  const end = last === undefined ? openEnd : number(last);
  if (Number.isNaN(start + end)) return [Number.NaN];
  const values = [];
  for (let value = start; value <= end; value += Number(step ?? 1)) values.push(value);
  return values;
}

const LONGEST_MONTHS = [0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

function isEverDue(schedule: CronSchedule): boolean {
  if (schedule.daysOfWeek.length < 7) return true;
  return schedule.months.some((month) => (schedule.daysOfMonth[0] ?? 32) <= (LONGEST_MONTHS[month] ?? 0));
}

// cron's rule: where both days are restricted, one of them is enough.
function isDayOf(schedule: CronSchedule, day: Date): boolean {
  if (!schedule.months.includes(day.getUTCMonth() + 1)) return false;
  const ofMonth = schedule.daysOfMonth.includes(day.getUTCDate());
  const ofWeek = schedule.daysOfWeek.includes(day.getUTCDay());
  const bothRestricted = schedule.daysOfMonth.length < 31 && schedule.daysOfWeek.length < 7;
  return bothRestricted ? ofMonth || ofWeek : ofMonth && ofWeek;
}

// "Local" numbers are ms since the epoch as if the local time were UTC.
function firstTickOfDay(
  schedule: CronSchedule,
  timeZone: string,
  { midnight, after }: { midnight: number; after: number },
): number | null {
  const before = offsetOf(timeZone, midnight - DAY_MS);
  const later = offsetOf(timeZone, midnight + 2 * DAY_MS);
  const bothCount = schedule.hours.length === 24;
  let first: number | null = null;
  for (const local of localTimesOf(schedule, midnight)) {
    const instants = before === later ? [local - before] : instantsOf(timeZone, local, { before, later });
    for (const instant of bothCount ? instants : instants.slice(0, 1)) {
      if (instant > after && (first === null || instant < first)) first = instant;
    }
    // Without a change of offset the times come in order.
    if (first !== null && before === later) return first;
  }
  return first;
}

function* localTimesOf(schedule: CronSchedule, midnight: number): Generator<number> {
  for (const hour of schedule.hours) {
    for (const minute of schedule.minutes) yield midnight + (hour * 60 + minute) * 60_000;
  }
}

// One instant, two where clocks pass the time twice, and where they skip it the one that the old offset gives.
function instantsOf(timeZone: string, local: number, offsets: { before: number; later: number }): number[] {
  const real = [local - offsets.before, local - offsets.later].filter(
    (instant) => instant + offsetOf(timeZone, instant) === local,
  );
  return real.length === 0 ? [local - offsets.before] : real.sort((a, b) => a - b);
}

function localMidnight(local: number): number {
  return Math.floor(local / DAY_MS) * DAY_MS;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
  let format = formats.get(timeZone);
  if (!format) {
    format = new Intl.DateTimeFormat('en-US', { timeZone, year: 'numeric', timeZoneName: 'longOffset' });
    formats.set(timeZone, format);
  }
  return format;
}

// Local time minus UTC, ms. Node writes GMT, GMT+02:00, GMT-00:44:30; of all its forms it is the quickest by far.
function offsetOf(timeZone: string, instant: number): number {
  const text = formatOf(timeZone).format(instant);
  const [, sign, hours, minutes, seconds = '0'] = /([+-])(\d\d):(\d\d)(?::(\d\d))?$/.exec(text) ?? [];
  if (sign === undefined) return 0;
  const ms = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1_000;
  return sign === '-' ? -ms : ms;
}
