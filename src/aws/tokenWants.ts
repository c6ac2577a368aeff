import type { RefreshSchedule } from '../core/refreshTime.ts';
import type { TokenRequest } from './authorizationToken.ts';

export type Verification = 'IfReachable' | 'Required' | 'Disabled';

/** One resource's wish for one token. */
export interface TokenWant {
  readonly key: string; // tokenKey of the request
  readonly request: TokenRequest;
  readonly hosts: readonly string[];
  readonly schedule?: string; // cron, five fields
  readonly timeZone?: string; // default: UTC
  readonly outliveSession: boolean;
  readonly verification: Verification;
  readonly revision: string; // a new one asks for a try at once; empty: none
}

/** What all resources together want of one token. */
export interface MergedWant {
  readonly key: string;
  readonly request: TokenRequest;
  readonly hosts: ReadonlyMap<string, Verification>;
  readonly schedules: readonly RefreshSchedule[]; // without doubles, in a fixed order
  readonly outliveSession: boolean;
  readonly revisions: ReadonlySet<string>;
}

/**
 * Joins the wants of one key: every schedule counts, a session is outlived only if all say so, and of several
 * verifications of a host the strictest holds.
 */
export function mergeWants(wants: readonly TokenWant[]): ReadonlyMap<string, MergedWant> {
  const byKey = Map.groupBy(wants, (want) => want.key);
  return new Map([...byKey].map(([key, group]) => [key, merge(key, group)]));
}

const STRICTNESS: readonly Verification[] = ['Disabled', 'IfReachable', 'Required'];

function merge(key: string, wants: readonly TokenWant[]): MergedWant {
  const [first] = wants;
  if (!first) throw new RangeError('a group has at least one want');
  const hosts = new Map<string, Verification>();
  const schedules = new Map<string, RefreshSchedule>();
  for (const want of wants) {
    for (const host of want.hosts) hosts.set(host, stricter(hosts.get(host), want.verification));
    if (want.schedule === undefined) continue;
    const schedule = { expression: want.schedule, timeZone: want.timeZone ?? 'UTC' };
    schedules.set(JSON.stringify(schedule), schedule);
  }
  return {
    key,
    request: first.request,
    hosts,
    schedules: [...schedules].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, schedule]) => schedule),
    outliveSession: wants.every((want) => want.outliveSession),
    revisions: new Set(wants.map((want) => want.revision).filter((revision) => revision !== '')),
  };
}

function stricter(one: Verification | undefined, other: Verification): Verification {
  return one !== undefined && STRICTNESS.indexOf(one) > STRICTNESS.indexOf(other) ? one : other;
}
