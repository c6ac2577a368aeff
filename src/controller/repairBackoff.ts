import type { Clock } from '../clock.ts';

const FREE_REPAIRS = 3;
const LONGEST_MS = 60_000;
const CALM_MS = 300_000; // after this long without a repair, the next is at once again

/**
 * Keeps us from an endless fight with another writer: the first repairs of an object are immediate, later ones wait
 * twice as long each time, up to a minute.
 */
export class RepairBackoff {
  readonly #repairs = new Map<string, { count: number; at: number }>();
  readonly #served = new Set<string>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The object is as it should be: whatever has to be written to it from now on is a repair. */
  served(key: string): void {
    this.#served.add(key);
  }

  isRepair(key: string): boolean {
    return this.#served.has(key);
  }

  /** How long to wait before this repair, ms; 0: now. */
  delayMs(key: string): number {
    const repair = this.#repairs.get(key);
    if (!repair || repair.count < FREE_REPAIRS) return 0;
    const wait = Math.min(LONGEST_MS, 1_000 * 2 ** (repair.count - FREE_REPAIRS));
    return Math.max(0, repair.at + wait - this.#clock.monotonic());
  }

  /** A repair is made. Returns how many it have been lately. */
  repaired(key: string): number {
    const now = this.#clock.monotonic();
    const before = this.#repairs.get(key);
    const count = before && now - before.at < CALM_MS ? before.count + 1 : 1;
    this.#repairs.set(key, { count, at: now });
    return count;
  }

  forget(key: string): void {
    this.#repairs.delete(key);
    this.#served.delete(key);
  }
}
