import type { Clock, Random } from '../clock.ts';
import type { Logger } from '../observability/log.ts';
import type { AuthorizationToken, AuthorizationTokenSource } from './authorizationToken.ts';
import { hostStatusOf, UNKNOWN_HOST, type HostStatus } from './hostStatus.ts';
import type { CheckResult } from './registryCheck.ts';
import { ServerTime, Stopwatch } from './serverTime.ts';
import { TokenRefresher, type ChangeReason } from './tokenRefresher.ts';
import { mergeWants, type TokenWant } from './tokenWants.ts';

export type { HostStatus, HostToken } from './hostStatus.ts';
export type { TokenWant } from './tokenWants.ts';

/** A published token as it survives a restart; per host, since a refused one is held back per host. */
export interface StoredToken {
  readonly key: string;
  readonly host: string;
  readonly auth: string;
  readonly issuedAt: string; // RFC 3339
  readonly expiresAt: string;
  readonly sessionEndsAt: string | null;
  readonly jitter?: number; // of its refresh, in [0, 1)
}

export interface TokenChange {
  readonly key: string;
  readonly hosts: string[];
  readonly reason: ChangeReason; // 'failure' also where one has gone
}

export interface TokenBrokerOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly source: Pick<AuthorizationTokenSource, 'fetch'>;
  readonly check: (host: string, auth: string, signal: AbortSignal) => Promise<CheckResult>;
  readonly serverNow: () => number; // ms on the server's clock: local time and the offset of the last answer
  readonly log: Logger;
  readonly metrics: {
    tokenExpiry(region: string, host: string, epochSeconds: number | null): void;
    tokenRefreshed(region: string, host: string, epochSeconds: number): void;
    forgetHost(region: string, host: string): void;
    refreshFailed(reason: string): void;
  };
  readonly isLeader: () => boolean;
  readonly onChange: (change: TokenChange) => void;
  readonly persist: (tokens: StoredToken[]) => void;
}

// A tick compares clocks at least so often, ms: a machine that was suspended notices so soon after waking.
const LONGEST_TICK_MS = 5_000;
const SHORTEST_TICK_MS = 100;
// While another leads, what is due waits for the lease.
const STANDBY_TICK_MS = 1_000;
// A tick that comes so late, ms, was held up by a process or a machine that stood still.
const SLEPT_MS = LONGEST_TICK_MS + 5_000;

/**
 * All tokens: one call of AWS for each key, whatever the number of resources and hosts, made by the leader alone and
 * before the token's half-life has passed. Tells what changes; never takes a good token away.
 */
export class TokenBroker {
  readonly #o: TokenBrokerOptions;
  readonly #time: ServerTime;
  readonly #refreshers = new Map<string, TokenRefresher>();
  readonly #changes = new Map<string, TokenChange>(); // not yet told; by key and reason
  #sinceTick: Stopwatch | null = null; // null: not started
  #cancelTick: () => void = () => {};
  #isTelling = false;
  #kept = ''; // what the store has, as far as we know

  constructor(options: TokenBrokerOptions) {
    this.#o = options;
    this.#time = new ServerTime(options.clock, options.serverNow);
  }

  start(): void {
    this.#sinceTick = new Stopwatch(this.#o.clock);
    this.#tick();
  }

  async stop(): Promise<void> {
    this.#sinceTick = null;
    this.#cancelTick();
    await Promise.all([...this.#refreshers.values()].map((refresher) => refresher.stop()));
  }

  /** The whole set of now. What is gone from it is refreshed no more, and forgotten after a while. */
  setWants(wants: readonly TokenWant[]): void {
    const merged = mergeWants(wants);
    for (const [key, refresher] of this.#refreshers) {
      if (!merged.has(key)) this.#unwant(refresher);
    }
    for (const [key, want] of merged) {
      const refresher = this.#refresher(key);
      const region = refresher.region;
      const left = refresher.publishedHosts().filter((host) => refresher.wantsHost(host) && !want.hosts.has(host));
      refresher.setWant(want);
      for (const host of left) this.#forgetMetrics(region, host);
      for (const host of want.hosts.keys()) this.#measure(refresher, host);
    }
    this.#tick();
  }

  hostStatus(key: string, host: string): HostStatus {
    const refresher = this.#refreshers.get(key);
    return refresher ? hostStatusOf(refresher, host) : UNKNOWN_HOST;
  }

  /** Tokens of an earlier run, or of the leader before; newer ones win. Used only where their key is wanted. */
  restore(tokens: readonly StoredToken[]): void {
    for (const { key, host, auth, issuedAt, expiresAt, sessionEndsAt, jitter } of tokens) {
      const token = {
        auth,
        issuedAt: new Date(issuedAt),
        expiresAt: new Date(expiresAt),
        sessionEndsAt: sessionEndsAt === null ? null : new Date(sessionEndsAt),
      };
      const times = [token.issuedAt, token.expiresAt, token.sessionEndsAt ?? token.issuedAt];
      if (times.some((time) => Number.isNaN(time.getTime()))) continue;
      this.#refresher(key).restore(host, token, jitter ?? this.#o.random());
    }
    this.#kept = textOf(tokens);
    this.#tick();
  }

  /** What was stored may be gone, or older ones be there again. */
  storeAnew(): void {
    this.#kept = textOf([]);
    if (this.#o.isLeader()) this.#keep();
  }

  /** When AWS will be asked next, ms on the server's clock; null where nothing is wanted. */
  nextRefreshAt(): number | null {
    const times = [...this.#refreshers.values()].map((refresher) => refresher.nextAttemptAt());
    const earliest = Math.min(...times.filter((time) => time !== null));
    return Number.isFinite(earliest) ? Math.max(earliest, this.#time.now()) : null;
  }

  #refresher(key: string): TokenRefresher {
    const known = this.#refreshers.get(key);
    if (known) return known;
    const { clock, random, source, check, log, metrics } = this.#o;
    const refresher: TokenRefresher = new TokenRefresher({
      key,
      clock,
      random,
      source,
      check,
      log,
      metrics,
      time: this.#time,
      onChange: (host, reason) => this.#changed(refresher, { key, host, reason }),
      onSettled: () => this.#tick(),
    });
    this.#refreshers.set(key, refresher);
    return refresher;
  }

  #tick(): void {
    if (this.#sinceTick === null) return;
    const hasSlept = this.#sinceTick.elapsedMs() > SLEPT_MS;
    this.#sinceTick = new Stopwatch(this.#o.clock);
    const isLeader = this.#o.isLeader();
    for (const [key, refresher] of this.#refreshers) {
      refresher.tick({ isLeader, hasSlept });
      if (refresher.isForgotten) this.#refreshers.delete(key);
    }
    this.#cancelTick();
    this.#cancelTick = this.#o.clock.after(this.#untilNext(isLeader), () => this.#tick());
  }

  #untilNext(isLeader: boolean): number {
    const due = Math.min(...[...this.#refreshers.values()].map((refresher) => refresher.dueAt()));
    const wait = due - this.#time.now();
    return Math.min(Math.max(wait, isLeader ? SHORTEST_TICK_MS : STANDBY_TICK_MS), LONGEST_TICK_MS);
  }

  #unwant(refresher: TokenRefresher): void {
    const { region } = refresher;
    const hosts = refresher.publishedHosts();
    refresher.setWant(null);
    for (const host of hosts) this.#forgetMetrics(region, host);
  }

  #changed(
    refresher: TokenRefresher,
    { key, host, reason }: { key: string; host: string; reason: ChangeReason },
  ): void {
    if (reason === 'token') this.#measure(refresher, host);
    const id = JSON.stringify([key, reason]);
    const change = this.#changes.get(id) ?? { key, hosts: [], reason };
    if (!change.hosts.includes(host)) change.hosts.push(host);
    this.#changes.set(id, change);
    if (this.#isTelling) return;
    // All that changes at once is told at once: a hundred hosts of a token are one change, and one write of the store.
    this.#isTelling = true;
    queueMicrotask(() => this.#tell());
  }

  #tell(): void {
    this.#isTelling = false;
    const changes = [...this.#changes.values()];
    this.#changes.clear();
    for (const change of changes) this.#o.onChange(change);
    // The leader's are the tokens: a standby has them from there.
    if (this.#o.isLeader() && changes.some(({ reason }) => reason === 'token')) this.#keep();
  }

  #keep(): void {
    const tokens = this.#stored();
    const text = textOf(tokens);
    if (text === this.#kept) return;
    this.#kept = text;
    this.#o.persist(tokens);
  }

  #stored(): StoredToken[] {
    return [...this.#refreshers].flatMap(([key, refresher]) =>
      refresher.publishedHosts().flatMap((host) => {
        const token = refresher.publication(host)?.published;
        return token ? [{ ...stored(key, host, token), jitter: refresher.jitter }] : [];
      }),
    );
  }

  #measure(refresher: TokenRefresher, host: string): void {
    const { region } = refresher;
    const published = refresher.publication(host)?.published;
    const life = published ? refresher.lifeOf(published) : null;
    if (region === null || !published || !life || !refresher.wantsHost(host)) return;
    this.#o.metrics.tokenExpiry(region, host, life.endOfLife.getTime() / 1000);
    this.#o.metrics.tokenRefreshed(region, host, published.issuedAt.getTime() / 1000);
  }

  // An alert on a token's end must not outlive the wish for it.
  #forgetMetrics(region: string | null, host: string): void {
    const isWanted = [...this.#refreshers.values()].some((other) => other.region === region && other.wantsHost(host));
    if (region !== null && !isWanted) this.#o.metrics.forgetHost(region, host);
  }
}

function textOf(tokens: readonly StoredToken[]): string {
  const id = ({ key, host }: StoredToken): string => `${key} ${host}`;
  return JSON.stringify(tokens.toSorted((a, b) => id(a).localeCompare(id(b))));
}

function stored(key: string, host: string, token: AuthorizationToken): StoredToken {
  return {
    key,
    host,
    auth: token.auth,
    issuedAt: token.issuedAt.toISOString(),
    expiresAt: token.expiresAt.toISOString(),
    sessionEndsAt: token.sessionEndsAt?.toISOString() ?? null,
  };
}
