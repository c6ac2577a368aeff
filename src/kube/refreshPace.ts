import type { Clock } from '../clock.ts';

const BURST_SECONDS = 0.1;
const LONGEST_WAIT_MS = 1000; // the rate is asked for again by then

/** A token bucket whose rate is asked for each time: smooth, with no burst of more than a tenth of a second's worth. */
export class RefreshPace {
  readonly #clock: Clock;
  readonly #perSecond: () => number;
  #allowance = 1;
  #at: number; // monotonic ms

  constructor(o: { clock: Clock; refreshPerSecond: () => number }) {
    this.#clock = o.clock;
    this.#perSecond = o.refreshPerSecond;
    this.#at = o.clock.monotonic();
  }

  /** Whether one may go now; counts it if so. */
  take(): boolean {
    const rate = this.#fill();
    if (rate === Infinity) return true;
    if (rate === 0 || this.#allowance < 1) return false;
    this.#allowance -= 1;
    return true;
  }

  /** When to ask again, in ms. */
  waitMs(): number {
    const rate = this.#fill();
    const missing = Math.max(0, 1 - this.#allowance);
    return rate > 0 ? Math.min(Math.ceil((missing / rate) * 1000), LONGEST_WAIT_MS) : LONGEST_WAIT_MS;
  }

  #fill(): number {
    const rate = Math.max(0, this.#perSecond());
    const now = this.#clock.monotonic();
    if (Number.isFinite(rate)) {
      const grown = this.#allowance + ((now - this.#at) / 1000) * rate;
      this.#allowance = Math.min(grown, Math.max(1, rate * BURST_SECONDS));
    }
    this.#at = now;
    return rate;
  }
}
