import type { Clock, Random } from '../clock.ts';
import { retryDelay } from '../core/refreshTime.ts';
import type { AuthorizationToken } from './authorizationToken.ts';
import type { CheckResult } from './registryCheck.ts';
import type { Verification } from './tokenWants.ts';

export interface Failure {
  readonly code: string;
  readonly message: string;
}

export interface HostPublicationOptions {
  readonly host: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly now: () => number; // ms on the server's clock
  /** When a token's life ends, ms on the server's clock, as the wants of now count it. */
  readonly endOf: (token: AuthorizationToken) => number;
  readonly check: (host: string, auth: string, signal: AbortSignal) => Promise<CheckResult>;
  readonly onChange: (reason: 'token' | 'failure' | 'expired') => void;
}

// A later token waits so long for its check, ms: nodes may be allowed what the operator is not.
const LONGEST_WAIT_MS = 3_000;

/** Which token a host has, and whether its registry takes it. A good one stays until a better one is there. */
export class HostPublication {
  readonly #o: HostPublicationOptions;
  #mode: Verification | null = null; // null: nobody wants it yet
  #published: AuthorizationToken | null = null;
  #isExpired = false;
  // Fetched, and not published yet: its check is under way, or its registry refuses it.
  #candidate: AuthorizationToken | null = null;
  #failure: Failure | null = null;
  #note: string | null = null;
  // What its check said is not known: it is one of an earlier run.
  #isRestored = false;
  #refusals = 0;
  #recheckAt: number | null = null; // ms on the server's clock
  #endCheck: () => void = () => {};

  constructor(options: HostPublicationOptions) {
    this.#o = options;
  }

  get published(): AuthorizationToken | null {
    return this.#published;
  }

  get isExpired(): boolean {
    return this.#isExpired;
  }

  get failure(): Failure | null {
    return this.#failure;
  }

  get note(): string | null {
    return this.#note;
  }

  /** Until the check of a token of an earlier run has told once more what that run knew. */
  get isUnconfirmed(): boolean {
    return this.#isRestored && this.#mode !== 'Disabled';
  }

  setMode(mode: Verification): void {
    const stricter = mode !== this.#mode && mode === 'Required' && this.#published !== null;
    this.#mode = mode;
    // What was published unchecked stays, but is looked at.
    if (stricter || this.isUnconfirmed) this.#recheckAt ??= this.#o.now();
  }

  /** A token of an earlier run: it was published then, so it is now, and is checked meanwhile. */
  restore(token: AuthorizationToken): void {
    if (this.#published && this.#published.issuedAt >= token.issuedAt) return;
    this.#isRestored = true;
    if (this.#mode !== null) this.#recheckAt ??= this.#o.now();
    this.#publish(token);
  }

  /** A new token. The first of a host is published at once and checked meanwhile, a later one is checked first. */
  offer(token: AuthorizationToken): void {
    this.#endCheck();
    this.#candidate = token;
    if (this.#mode === 'Disabled') return this.#accept();
    const isFirst = this.#published === null || this.#o.endOf(this.#published) <= this.#o.now();
    if (this.#mode === 'IfReachable' && isFirst) this.#publish(token);
    this.#startCheck(token);
  }

  /** Does what has come due: an end of life, another check, a refused token that is better than none. */
  tick(o: { mayExpire: boolean }): void {
    const now = this.#o.now();
    if (this.#candidate && this.#mode !== 'Required' && this.#recheckAt !== null && !this.#mayHoldBack()) {
      this.#publish(this.#candidate);
    }
    if (this.#recheckAt !== null && this.#recheckAt <= now) this.#recheck();
    this.#judge(now, o.mayExpire);
  }

  /** When `tick` has something to do next, ms on the server's clock. */
  dueAt(): number {
    const end = this.#published && !this.#isExpired ? this.#o.endOf(this.#published) : Infinity;
    return Math.min(end, this.#recheckAt ?? Infinity);
  }

  /** Ends a check; one that a token waits for is due again. */
  stop(): void {
    this.#endCheck();
    if (this.#candidate) this.#recheckAt ??= this.#o.now();
  }

  #judge(now: number, mayExpire: boolean): void {
    const isOver = this.#published !== null && this.#o.endOf(this.#published) <= now;
    if (isOver === this.#isExpired || (isOver && !mayExpire)) return;
    this.#isExpired = isOver;
    this.#o.onChange(isOver ? 'expired' : 'token');
  }

  #publish(token: AuthorizationToken): void {
    this.#published = token;
    if (this.#candidate === token) this.#candidate = null;
    this.#isExpired = this.#o.endOf(token) <= this.#o.now();
    this.#o.onChange('token');
  }

  #accept(): void {
    this.#settle({ failure: null, note: null });
    if (this.#candidate) this.#publish(this.#candidate);
  }

  #recheck(): void {
    const token = this.#candidate ?? this.#published;
    this.#recheckAt = null;
    if (token && this.#mode !== 'Disabled') this.#startCheck(token);
    else this.#accept();
  }

  #startCheck(token: AuthorizationToken): void {
    this.#endCheck();
    this.#recheckAt = null;
    const ending = new AbortController();
    const cancelWait = this.#o.clock.after(LONGEST_WAIT_MS, () => this.#waitedEnough(token));
    this.#endCheck = () => {
      cancelWait();
      ending.abort();
      this.#endCheck = () => {};
    };
    void this.#o
      .check(this.#o.host, token.auth, ending.signal)
      .catch(() => ({ verdict: 'unreachable', message: `the check of ${this.#o.host} failed` }) as const)
      .then((result) => {
        if (ending.signal.aborted) return;
        cancelWait();
        this.#endCheck = () => {};
        this.#conclude(result);
      });
  }

  #waitedEnough(token: AuthorizationToken): void {
    // One that has been refused before is not published by a slow answer.
    if (this.#mode !== 'IfReachable' || this.#candidate !== token || this.#failure !== null) return;
    this.#note = `not checked: ${this.#o.host} has not answered yet`;
    this.#publish(token);
  }

  #conclude(result: CheckResult): void {
    if (result.verdict === 'accepted') return this.#accept();
    const { message } = result;
    if (result.verdict === 'unreachable' && this.#mode !== 'Required') {
      this.#settle({ failure: null, note: `not checked: ${message}` });
      if (this.#candidate) this.#publish(this.#candidate);
      return;
    }
    const code = result.verdict === 'refused' ? 'TokenRefused' : 'RegistryUnreachable';
    this.#refusals += 1;
    this.#recheckAt = this.#o.now() + this.#recheckDelay();
    this.#note = null;
    this.#isRestored = false;
    this.#fail({ code, message: this.#candidate ? `${message}: the new token is held back` : message });
    if (this.#candidate && this.#mode !== 'Required' && !this.#mayHoldBack()) this.#publish(this.#candidate);
  }

  // While the old token has more than a quarter of its life left.
  #mayHoldBack(): boolean {
    if (!this.#published) return false;
    const end = this.#o.endOf(this.#published);
    return end - this.#o.now() > (end - this.#published.issuedAt.getTime()) / 4;
  }

  #recheckDelay(): number {
    const lifeLeftMs = this.#published ? Math.max(0, this.#o.endOf(this.#published) - this.#o.now()) : 0;
    return retryDelay({ attempt: this.#refusals, lifeLeftMs, random: this.#o.random });
  }

  #settle(o: { failure: Failure | null; note: string | null }): void {
    const changed = this.#isRestored || this.#failure !== null || this.#note !== o.note;
    this.#isRestored = false;
    this.#failure = o.failure;
    this.#note = o.note;
    this.#refusals = 0;
    this.#recheckAt = null;
    if (changed) this.#o.onChange('failure');
  }

  #fail(failure: Failure): void {
    const changed = this.#failure?.code !== failure.code || this.#failure.message !== failure.message;
    this.#failure = failure;
    if (changed) this.#o.onChange('failure');
  }
}
