import type { Clock } from '../clock.ts';

const FREE_FAILURES = 3;
const REST_MS = 5_000;
const GONE_MS = 45_000;

interface Rest {
  readonly failures: number;
  readonly until: number; // monotonic ms
  readonly shown?: unknown; // how the watch showed it; ends with that
}

/**
 * A namespace that goes on failing is tried again by its back-off, not by each event in it: after the first failures not
 * within 5 s of the last, and never before the time that the API server asked for is over. One that is gone by the word
 * of the API server is left alone until its watch shows something else of it.
 */
export class Patience {
  readonly #clock: Clock;
  readonly #failing = new Map<string, Rest>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  failed(namespace: string): void {
    const failures = (this.#failing.get(namespace)?.failures ?? 0) + 1;
    const restMs = failures < FREE_FAILURES ? 0 : REST_MS;
    this.#failing.set(namespace, { failures, until: this.#clock.monotonic() + restMs });
  }

  throttled(namespace: string, retryAfterMs: number): void {
    const failures = this.#failing.get(namespace)?.failures ?? 0;
    this.#failing.set(namespace, { failures, until: this.#clock.monotonic() + retryAfterMs });
  }

  /** `shown`: what the watch shows of it, as an object that is another one after each change. */
  gone(namespace: string, shown: unknown): void {
    if (shown === undefined) return; // the watch knows it, too
    this.#failing.set(namespace, { failures: 0, until: this.#clock.monotonic() + GONE_MS, shown });
  }

  forget(namespace: string): void {
    this.#failing.delete(namespace);
  }

  clear(): void {
    this.#failing.clear();
  }

  /** How long it is left alone yet, ms. */
  leftMs(namespace: string, shown: unknown): number {
    const rest = this.#failing.get(namespace);
    if (rest === undefined || (rest.shown !== undefined && rest.shown !== shown)) return 0;
    return Math.max(0, rest.until - this.#clock.monotonic());
  }
}
