import type { Clock, Random } from '../clock.ts';
import { endOfLife, nextRefresh, retryDelay, SHORTEST_INTERVAL_MS, type Life } from '../core/refreshTime.ts';
import { outcomeOf, type Outcome } from '../errors.ts';
import type { Logger } from '../observability/log.ts';
import type { AuthorizationToken, AuthorizationTokenSource } from './authorizationToken.ts';
import { HostPublication, type Failure } from './hostPublication.ts';
import type { CheckResult } from './registryCheck.ts';
import { Stopwatch, type ServerTime } from './serverTime.ts';
import type { MergedWant, Verification } from './tokenWants.ts';

export type ChangeReason = 'token' | 'failure' | 'expired';

export interface TokenRefresherOptions {
  readonly key: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly time: ServerTime;
  readonly source: Pick<AuthorizationTokenSource, 'fetch'>;
  readonly check: (host: string, auth: string, signal: AbortSignal) => Promise<CheckResult>;
  readonly log: Logger;
  readonly metrics: { refreshFailed(reason: string): void };
  readonly onChange: (host: string, reason: ChangeReason) => void;
  /** An attempt has ended: look again at what is due. */
  readonly onSettled: () => void;
}

// Tokens that nobody wants any more are kept so long, ms: a resource may be suspended, or deleted and created again.
const KEPT_UNWANTED_MS = 3_600_000;
const LONGEST_THROTTLE_MS = 5 * 60_000;
const REVISIONS_KEPT = 100; // beside those that are wanted now
// The leader's token answers a request that is seen here up to so long, ms, after the token's `issuedAt`: its server tells
// whole seconds, cut off, and the watch of a standby may be seconds behind the leader's.
const ANSWERED_BEFORE_MS = 6_000;

interface HostEntry {
  readonly publication: HostPublication;
  unwantedFor: Stopwatch | null; // null: it is wanted
}

/** One token's life: fetched when it is due, one attempt at a time, and published at each of its hosts. */
export class TokenRefresher {
  readonly #o: TokenRefresherOptions;
  readonly #hosts = new Map<string, HostEntry>();
  #stopping = new AbortController();
  #want: MergedWant | null = null;
  #revisions: ReadonlySet<string> | null = null; // those seen, the latest last
  #token: AuthorizationToken | null = null; // the newest
  #jitter = 0; // of its refresh, in [0, 1): drawn once, so that nothing moves it
  #failure: Failure | null = null;
  #failures = 0; // in a row
  #nextAt = -Infinity; // ms on the server's clock, as `askedAt`
  #askedAt: number | null = null; // somebody asks for a try at once
  #sinceAttempt: Stopwatch | null = null;
  #throttledFor: { watch: Stopwatch; ms: number } | null = null;
  #inFlight: Promise<void> | null = null;
  // A stopped process finds tokens past their end when it wakes: whether that is so, its first attempt will tell.
  #isWaking = false;

  constructor(options: TokenRefresherOptions) {
    this.#o = options;
  }

  setWant(want: MergedWant | null): void {
    const before = this.#want;
    this.#want = want;
    this.#markUnwanted();
    if (!want) return;
    this.#noteRevisions(want.revisions);
    for (const [host, mode] of want.hosts) this.#wantHost(host, mode);
    if (this.#token && this.#failures === 0 && !hasSameTiming(before, want)) this.#schedule(this.#token);
  }

  /** A token of an earlier run, or of the leader before, and the jitter of its refresh. */
  restore(host: string, token: AuthorizationToken, jitter: number): void {
    if (!this.lifeOf(token)) return;
    this.#entry(host).publication.restore(token);
    if (this.#token && this.#token.issuedAt >= token.issuedAt) return;
    this.#token = token;
    this.#jitter = jitter;
    const answersUntil = token.issuedAt.getTime() + ANSWERED_BEFORE_MS;
    if (this.#askedAt !== null && this.#askedAt < answersUntil) this.#askedAt = null;
    this.#succeed(token);
  }

  /** Starts an attempt if one is due, and lets the hosts do what is. */
  tick({ isLeader, hasSlept }: { isLeader: boolean; hasSlept: boolean }): void {
    this.#forgetUnwanted();
    if (hasSlept && this.#failures > 0) {
      this.#failures = 1;
      this.#nextAt = Math.min(this.#nextAt, this.#o.time.now());
    }
    if (isLeader && this.#isDue()) this.#start();
    if (hasSlept && this.#inFlight) this.#isWaking = true;
    for (const { publication } of this.#hosts.values()) publication.tick({ mayExpire: !this.#isWaking });
  }

  /** When `tick` has something to do next, ms on the server's clock. */
  dueAt(): number {
    const attempt = this.#want && !this.#inFlight ? this.#attemptAt() : Infinity;
    return Math.min(attempt, ...[...this.#hosts.values()].map(({ publication }) => publication.dueAt()));
  }

  /** When AWS will be asked next, ms on the server's clock; null where nobody wants it. */
  nextAttemptAt(): number | null {
    if (!this.#want) return null;
    return this.#inFlight ? this.#o.time.now() : this.#attemptAt();
  }

  get failure(): Failure | null {
    return this.#failure;
  }

  publication(host: string): HostPublication | null {
    return this.#hosts.get(host)?.publication ?? null;
  }

  /** The hosts that have a token, wanted or not. */
  publishedHosts(): readonly string[] {
    return [...this.#hosts].filter(([, { publication }]) => publication.published).map(([host]) => host);
  }

  wantsHost(host: string): boolean {
    return this.#want?.hosts.has(host) ?? false;
  }

  get jitter(): number {
    return this.#jitter;
  }

  get region(): string | null {
    return this.#want?.request.region ?? null;
  }

  /** How the token's life is counted now; null where it has none. */
  lifeOf(token: AuthorizationToken): Life | null {
    try {
      return endOfLife({ ...token, outliveSession: this.#want?.outliveSession ?? false });
    } catch {
      return null;
    }
  }

  /** Nobody wants it, and nothing is left. */
  get isForgotten(): boolean {
    return this.#want === null && this.#hosts.size === 0 && this.#inFlight === null;
  }

  /** Ends what is under way. Who leads again goes on with `tick`. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#stopping = new AbortController();
    for (const { publication } of this.#hosts.values()) publication.stop();
    await this.#inFlight;
  }

  #markUnwanted(): void {
    for (const [host, entry] of this.#hosts) {
      if (this.wantsHost(host)) entry.unwantedFor = null;
      else entry.unwantedFor ??= new Stopwatch(this.#o.clock);
    }
  }

  // Those of a first want ask for nothing: a token that has survived a restart is good enough. Nor do those that come
  // again, as they do where etcd is restored from a copy.
  #noteRevisions(revisions: ReadonlySet<string>): void {
    const seen = this.#revisions ?? revisions;
    if (!revisions.isSubsetOf(seen)) this.#askedAt = this.#o.time.now();
    const earlier = [...seen.difference(revisions)].slice(-REVISIONS_KEPT);
    this.#revisions = new Set([...earlier, ...revisions]);
  }

  #wantHost(host: string, mode: Verification): void {
    const { publication } = this.#entry(host);
    publication.setMode(mode);
    // A host that joins a token that is there needs no call of AWS.
    if (!publication.published && this.#token && this.#endOf(this.#token) > this.#o.time.now()) {
      publication.offer(this.#token);
    }
  }

  #entry(host: string): HostEntry {
    const known = this.#hosts.get(host);
    if (known) return known;
    const { clock, random, check, onChange, metrics } = this.#o;
    const publication: HostPublication = new HostPublication({
      host,
      clock,
      random,
      check,
      now: () => this.#o.time.now(),
      endOf: (token) => this.#endOf(token),
      onChange: (reason) => {
        if (reason === 'failure' && publication.failure) metrics.refreshFailed(publication.failure.code);
        onChange(host, reason);
      },
    });
    const entry = { publication, unwantedFor: this.wantsHost(host) ? null : new Stopwatch(clock) };
    this.#hosts.set(host, entry);
    return entry;
  }

  #forgetUnwanted(): void {
    for (const [host, { unwantedFor, publication }] of this.#hosts) {
      if (unwantedFor === null || unwantedFor.elapsedMs() < KEPT_UNWANTED_MS) continue;
      publication.stop();
      this.#hosts.delete(host);
      this.#o.onChange(host, 'token');
    }
  }

  #isDue(): boolean {
    return this.#want !== null && this.#inFlight === null && this.#attemptAt() <= this.#o.time.now();
  }

  #attemptAt(): number {
    const now = this.#o.time.now();
    const due = this.#askedAt ?? this.#nextAt;
    // Measured on clocks of our own: a server's time may be anything.
    const left = this.#sinceAttempt ? SHORTEST_INTERVAL_MS - this.#sinceAttempt.elapsedMs() : 0;
    const throttled = this.#throttledFor ? this.#throttledFor.ms - this.#throttledFor.watch.elapsedMs() : 0;
    return Math.max(due, now + Math.max(left, throttled, 0));
  }

  #start(): void {
    const want = this.#want;
    if (!want) return;
    this.#askedAt = null;
    this.#sinceAttempt = new Stopwatch(this.#o.clock);
    const { source, onSettled } = this.#o;
    const { signal } = this.#stopping;
    this.#inFlight = source
      .fetch(want.request, signal)
      .then((token) => this.#received(token))
      .catch((error: unknown) => {
        if (!signal.aborted) this.#failed(outcomeOf(error), error);
      })
      .finally(() => {
        this.#inFlight = null;
        this.#isWaking = false;
        onSettled();
      });
  }

  #received(token: AuthorizationToken): void {
    endOfLife({ ...token, outliveSession: this.#want?.outliveSession ?? false });
    this.#token = token;
    this.#jitter = this.#o.random();
    this.#o.log.info({ region: this.region, issuedAt: token.issuedAt, expiresAt: token.expiresAt }, 'token refreshed');
    this.#succeed(token);
    for (const [host, { publication }] of this.#hosts) {
      if (this.wantsHost(host)) publication.offer(token);
    }
  }

  #succeed(token: AuthorizationToken): void {
    const hasRecovered = this.#failure !== null;
    this.#failure = null;
    this.#failures = 0;
    this.#throttledFor = null;
    this.#schedule(token);
    if (hasRecovered) this.#tellAll('failure');
  }

  #schedule(token: AuthorizationToken): void {
    const { time } = this.#o;
    const lastAttemptAt = this.#sinceAttempt ? new Date(time.now() - this.#sinceAttempt.elapsedMs()) : null;
    const end = new Date(this.#endOf(token));
    const schedules = this.#want?.schedules ?? [];
    this.#nextAt = nextRefresh({
      issuedAt: token.issuedAt,
      endOfLife: end,
      schedules,
      random: () => this.#jitter,
      lastAttemptAt,
    }).getTime();
  }

  #failed(outcome: Outcome, error: unknown): void {
    if (outcome.kind === 'Stopped') return;
    const { code, message } = 'message' in outcome ? outcome : { code: outcome.kind, message: outcome.kind };
    const fields = { region: this.region, code, ...(outcome.kind === 'Unexpected' && { err: error }) };
    this.#o.log.warn(fields, `token not refreshed: ${message}`);
    this.#o.metrics.refreshFailed(code);
    const now = this.#o.time.now();
    const lifeLeftMs = this.#token ? Math.max(0, this.#endOf(this.#token) - now) : 0;
    this.#failures += 1;
    this.#failure = { code, message };
    this.#nextAt = now + retryDelay({ attempt: this.#failures, lifeLeftMs, random: this.#o.random });
    if (outcome.kind === 'Throttled') {
      const ms = Math.min(outcome.retryAfterMs, LONGEST_THROTTLE_MS);
      this.#throttledFor = { watch: new Stopwatch(this.#o.clock), ms };
    }
    this.#tellAll('failure');
  }

  #tellAll(reason: ChangeReason): void {
    for (const host of this.#want?.hosts.keys() ?? []) this.#o.onChange(host, reason);
  }

  #endOf(token: AuthorizationToken): number {
    return this.lifeOf(token)?.endOfLife.getTime() ?? -Infinity;
  }
}

function hasSameTiming(before: MergedWant | null, after: MergedWant): boolean {
  return (
    before?.outliveSession === after.outliveSession &&
    JSON.stringify(before.schedules) === JSON.stringify(after.schedules)
  );
}
