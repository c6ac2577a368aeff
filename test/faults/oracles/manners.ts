import type { SeenRequest } from '../../cluster/apiServerProxy.ts';
import type { Still } from '../../cluster/operator.ts';
import type { Vitals } from '../vitals.ts';
import { RENEW_DEADLINE_MS } from './leadership.ts';

const STEADY_AFTER_MS = 15_000;
const LEAST_GAP_MS = 5_000;
const SLACK_MS = 500; // between our clock and the operator's timers

/**
 * Invariant 12: whatever is asked of the API server, watches apart, has ended before the lease could be lost by it. A
 * process that stands still cannot end anything.
 */
export function overdue(requests: readonly SeenRequest[], o: { now: number; stills: readonly Still[] }): string[] {
  return requests.flatMap(({ method, path, isWatch, time, endedAt }) => {
    if (isWatch) return [];
    const end = endedAt ?? o.now;
    const still = o.stills.map(({ from, to }) => Math.max(0, Math.min(to, end) - Math.max(from, time)));
    const ms = end - time - still.reduce((sum, one) => sum + one, 0);
    return ms > RENEW_DEADLINE_MS ? [`${method} ${path} lasted ${Math.round(ms)} ms`] : [];
  });
}

/**
 * Invariant 11: what is refused is not asked again before the time that the answer names, and a write, list or watch that
 * goes on failing comes once in five seconds: a reflector's back-off, 0.8 s doubling to 30 s, is past that when it has
 * failed for fifteen. The Lease is renewed at its own pace; events and reviews share one path.
 */
export function hasty(requests: readonly SeenRequest[]): string[] {
  const counted = requests.filter(({ path }) => !/\/(leases|events|\w+reviews)(\/|\?|$)/.test(path));
  const byKey = Map.groupBy(counted, keyOf);
  const returns = returnsIn(requests);
  return [...byKey].flatMap(([key, tries]) => [...tooSoon(key, tries), ...tooOften(key, tries, returns)]);
}

// Where a list or watch begins is no part of what it asks for.
function keyOf({ method, path }: SeenRequest): string {
  const url = new URL(path, 'https://any');
  for (const name of ['resourceVersion', 'continue', 'limit', 'timeoutSeconds', 'allowWatchBookmarks'])
    url.searchParams.delete(name);
  return `${method} ${url.pathname}${url.search}`;
}

function tooSoon(key: string, tries: readonly SeenRequest[]): string[] {
  return tries.flatMap(({ status, retryAfter, endedAt }, index) => {
    const next = tries[index + 1];
    if (!next || status === null || status < 400 || endedAt === null || retryAfter === null) return [];
    const gapMs = next.time - endedAt;
    const leastMs = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1_000 : Date.parse(retryAfter) - endedAt;
    return gapMs < leastMs - SLACK_MS ? [`${key} again after ${gapMs} ms, though told ${retryAfter}`] : [];
  });
}

// A conflict is looked into at once, and so is a patch whose test fails: read again, decide again. But not for ever.
const FREE_CONFLICTS = 4;

function tooOften(key: string, tries: readonly SeenRequest[], returns: readonly number[]): string[] {
  if (key.startsWith('GET ') && !isCollection(key)) return [];
  const told: string[] = [];
  let failingSince: number | null = null;
  let conflicts = 0;
  let last: SeenRequest | null = null;
  let isSecond = false;
  for (const next of tries) {
    const { time, status } = next;
    isSecond = !isSecond && last !== null && isLostAndSentAgain(last, next);
    const gapMs = time - (last?.time ?? -Infinity);
    // Every back-off begins anew when the server is back.
    if (returns.some((at) => at > time - gapMs && at <= time)) failingSince = null;
    const isSteady = failingSince !== null && last !== null && last.time - failingSince >= STEADY_AFTER_MS;
    const isConflicting = conflicts > 0 && conflicts < FREE_CONFLICTS;
    const isAgainstHope = isSteady && isFailure(next) && !isConflicting && !isSecond;
    if (isAgainstHope && gapMs < LEAST_GAP_MS - SLACK_MS)
      told.push(`${key} again after ${gapMs} ms, though it goes on failing`);
    conflicts = isConflict(key, status) ? conflicts + 1 : 0;
    failingSince = isFailure(next) ? (failingSince ?? time) : null;
    last = next;
  }
  return told;
}

/** A list or a watch: what a reflector asks for, by its back-off alone. */
function isCollection(key: string): boolean {
  return /\/(secrets|serviceaccounts|namespaces|clusterecrpullsecrets|customresourcedefinitions)(\?|$)/.test(key);
}

/**
 * Without an answer it has failed, too; a watch that is open has none yet. A resource that there is not is listed whenever
 * its CRD changes.
 */
function isFailure({ method, isWatch, status, endedAt }: SeenRequest): boolean {
  if (status === null) return !isWatch || endedAt !== null;
  return status >= 400 && !(method === 'GET' && status === 404);
}

// A connection that is lost under a request may have been an idle one that was just closed: it is sent once more, at once.
function isLostAndSentAgain(last: SeenRequest, next: SeenRequest): boolean {
  return last.status === null && last.endedAt !== null && next.time - last.endedAt < SLACK_MS;
}

const OUTAGE_MS = 2_500;

/** When the server answered again after an outage: who waits in a back-off then need not. */
function returnsIn(requests: readonly SeenRequest[]): number[] {
  const answered = requests.flatMap(({ status, endedAt, time, isWatch }) => {
    const isAnswered = status !== null && status < 500 && status !== 401 && status !== 429;
    return isAnswered ? [isWatch ? time : (endedAt ?? time)] : [];
  });
  const inOrder = answered.sort((a, b) => a - b);
  return inOrder.filter((at, index) => at - (inOrder[index - 1] ?? -Infinity) >= OUTAGE_MS);
}

function isConflict(key: string, status: number | null): boolean {
  return status === 409 || (status === 422 && key.includes('/serviceaccounts/'));
}

const MOST_LAG_MS = 2_500;
const STARTED_AFTER_MS = 10_000; // until then modules are read

const TOLD_WITHIN_MS = 3_000; // a line tells of the second before it, and the one after a still may come first

/** Invariant 9: nothing keeps the process from its timers for long, but what stops it from without. */
export function delayed(
  vitals: readonly Pick<Vitals, 'atMs' | 'lagMs'>[],
  o: { begunAt: number; stills: readonly Still[] },
): string[] {
  const excess = vitals.flatMap(({ atMs, lagMs }) => {
    const at = o.begunAt + atMs;
    const near = o.stills.filter(({ from, to }) => from <= at && at <= to + TOLD_WITHIN_MS);
    const longest = Math.max(0, ...near.map(({ from, to }) => to - from));
    return atMs > STARTED_AFTER_MS && lagMs > MOST_LAG_MS + longest ? [lagMs] : [];
  });
  return excess.length > 0 ? [`its event loop stood still for ${Math.round(Math.max(...excess))} ms`] : [];
}

/** Invariant 9: more memory than the Deployment allows, at any second since a mark. */
export function greedy(
  vitals: readonly Pick<Vitals, 'atMs' | 'rss'>[],
  o: { begunAt: number; since: number; mostBytes: number },
): string[] {
  const most = Math.max(0, ...vitals.filter(({ atMs }) => o.begunAt + atMs >= o.since).map(({ rss }) => rss));
  return most > o.mostBytes ? [`it held ${Math.round(most / 2 ** 20)} MiB`] : [];
}
