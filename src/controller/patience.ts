import type { Clock } from '../clock.ts';

const FREE_FAILURES = 3;
const REST_MS = 5_000;

/**
 * A namespace that goes on failing is tried again by its back-off, not by each event in it: after the first failures not
 * within 5 s of the last, and never before the time that the API server asked for is over.
 */
export class Patience {
  readonly #clock: Clock;
  readonly #failing = new Map<string, { failures: number; until: number }>(); // monotonic ms

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

  forget(namespace: string): void {
    this.#failing.delete(namespace);
  }

  clear(): void {
    this.#failing.clear();
  }

  /** How long it is left alone yet, ms. */
  leftMs(namespace: string): number {
    return Math.max(0, (this.#failing.get(namespace)?.until ?? 0) - this.#clock.monotonic());
  }
}
