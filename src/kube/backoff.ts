import type { Clock, Random } from '../clock.ts';

const FIRST_MS = 800;
const LONGEST_MS = 30_000;
const QUIET_MS = 120_000; // so long without a failure, and the next one is the first again

/**
 * Delays of client-go's reflector: 0.8 s doubling to 30 s, each spread over its upper half, so that clients that lost one
 * server do not come back together.
 */
export class Backoff {
  readonly #clock: Clock;
  readonly #random: Random;
  #step = 0;
  #last = -Infinity; // monotonic ms

  constructor(o: { clock: Clock; random: Random }) {
    this.#clock = o.clock;
    this.#random = o.random;
  }

  /** Whether no failure is remembered. */
  get fresh(): boolean {
    return this.#step === 0 || this.#clock.monotonic() - this.#last >= QUIET_MS;
  }

  /** ms to wait before the next try. */
  next(): number {
    if (this.fresh) this.#step = 0;
    const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#step);
    if (longest < LONGEST_MS) this.#step += 1;
    const delay = (longest / 2) * (1 + this.#random());
    this.#last = this.#clock.monotonic() + delay;
    return delay;
  }

  reset(): void {
    this.#step = 0;
  }
}
