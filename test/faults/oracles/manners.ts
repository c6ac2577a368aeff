import type { SeenRequest } from '../../cluster/apiServerProxy.ts';
import type { Still } from '../../cluster/operator.ts';
import type { Vitals } from '../vitals.ts';
import { RENEW_DEADLINE_MS } from './leadership.ts';

const STEADY_AFTER_MS = 15_000;
const LEAST_GAP_MS = 5_000;
const SLACK_MS = 500; // between our clock and the operator's timers

/**
 * Invariant 11: whatever is asked of the API server, watches apart, has ended before the lease could be lost by it. A
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
 * Invariant 10: what is refused is not asked again before the time that the answer names, and a write that goes on being
 * refused comes once in five seconds. The Lease is renewed at its own pace; events and reviews share one path.
 */
export function hasty(requests: readonly SeenRequest[]): string[] {
  const counted = requests.filter(
    ({ path, isWatch }) => !isWatch && !/\/(leases|events|\w+reviews)(\/|\?|$)/.test(path),
  );
  const byKey = Map.groupBy(counted, keyOf);
  return [...byKey].flatMap(([key, tries]) => [...tooSoon(key, tries), ...tooOften(key, tries)]);
}

// Where a list or watch begins is no part of what it asks for.
function keyOf({ method, path }: SeenRequest): string {
  const url = new URL(path, 'https://any');
  for (const name of ['resourceVersion', 'continue', 'limit', 'timeoutSeconds']) url.searchParams.delete(name);
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

function tooOften(key: string, tries: readonly SeenRequest[]): string[] {
  if (key.startsWith('GET ')) return [];
  const told: string[] = [];
  let failingSince: number | null = null;
  let conflicts = 0;
  let last = -Infinity;
  for (const { time, status } of tries) {
    const gapMs = time - last;
    const isSteady = failingSince !== null && last - failingSince >= STEADY_AFTER_MS;
    const isFree = conflicts > 0 && conflicts < FREE_CONFLICTS;
    if (isSteady && !isFree && gapMs < LEAST_GAP_MS - SLACK_MS)
      told.push(`${key} again after ${gapMs} ms, though it goes on failing`);
    conflicts = isConflict(key, status) ? conflicts + 1 : 0;
    failingSince = status !== null && status >= 400 ? (failingSince ?? time) : null;
    last = time;
  }
  return told;
}

function isConflict(key: string, status: number | null): boolean {
  return status === 409 || (status === 422 && key.includes('/serviceaccounts/'));
}

const MOST_LAG_MS = 2_500;
const STARTED_AFTER_MS = 10_000; // until then modules are read

/** Invariant 9: nothing keeps the process from its timers for long, but what stops it from without. */
export function delayed(vitals: readonly Pick<Vitals, 'atMs' | 'lagMs'>[], stills: readonly Still[]): string[] {
  const longestStill = Math.max(0, ...stills.map(({ from, to }) => to - from));
  const lags = vitals.filter(({ atMs }) => atMs > STARTED_AFTER_MS).map(({ lagMs }) => lagMs);
  const most = Math.max(0, ...lags);
  return most > MOST_LAG_MS + longestStill ? [`its event loop stood still for ${Math.round(most)} ms`] : [];
}
