import type { Clock } from '../clock.ts';
import { RepairBackoff } from './repairBackoff.ts';

export interface RemovalGateOptions {
  readonly clock: Clock;
  readonly delayMs: number;
  /** Every view that a removal is decided on is known to be current. */
  readonly isViewTrusted: () => boolean;
  /** Read from the API server: the CRD is there, steady, and the one that we listed under. */
  readonly isCrdSteady: () => Promise<boolean>;
}

const ASK_AGAIN_MS = 5_000;
// A thousand namespaces that are emptied together share one reading.
const ANSWER_LASTS_MS = 500;

/**
 * Nothing is removed by mistake: every removal waits, so that a delete and create is none, and is decided on a view that
 * is whole and current, under a CRD that was just seen.
 */
export class RemovalGate {
  readonly #options: RemovalGateOptions;
  readonly #pendingSince = new Map<string, number>(); // namespace → ms, monotonic
  readonly #returns: RepairBackoff; // of what somebody else puts there again after each removal
  #reading: { at: number; answer: Promise<boolean> } | null = null;

  constructor(options: RemovalGateOptions) {
    this.#options = options;
    this.#returns = new RepairBackoff(options.clock);
  }

  async mayRemove(namespace: string): Promise<{ mayRemove: true } | { mayRemove: false; retryMs: number }> {
    if (!this.#options.isViewTrusted()) return this.#waitAnew(namespace);
    const left = this.#leftOf(namespace);
    if (left > 0) return { mayRemove: false, retryMs: left };
    const isSafe = (await this.#isCrdSteady()) && this.#options.isViewTrusted();
    return isSafe ? { mayRemove: true } : this.#waitAnew(namespace);
  }

  // What a watch that is back has to show comes before the wait is over.
  #waitAnew(namespace: string): { mayRemove: false; retryMs: number } {
    this.settled(namespace);
    return { mayRemove: false, retryMs: ASK_AGAIN_MS };
  }

  /** The wait of this namespace is already over, e.g. since the deletion of a resource was waited for. */
  waited(namespace: string): void {
    this.#pendingSince.set(namespace, -Infinity);
  }

  settled(namespace: string): void {
    this.#pendingSince.delete(namespace);
  }

  /** Our Secret was removed: one that comes after it waits anew. Returns how many were without one of our own in between. */
  removed(namespace: string): number {
    this.settled(namespace);
    return this.#returns.repaired(namespace);
  }

  /** We have put one there ourselves: whatever is removed next is nobody else's. */
  filled(namespace: string): void {
    this.#returns.forget(namespace);
  }

  forget(namespace: string): void {
    this.settled(namespace);
    this.filled(namespace);
  }

  #leftOf(namespace: string): number {
    const now = this.#options.clock.monotonic();
    const since = this.#pendingSince.get(namespace);
    if (since === undefined) this.#pendingSince.set(namespace, now);
    return Math.max((since ?? now) + this.#options.delayMs - now, this.#returns.delayMs(namespace));
  }

  #isCrdSteady(): Promise<boolean> {
    const now = this.#options.clock.monotonic();
    if (!this.#reading || now - this.#reading.at > ANSWER_LASTS_MS) {
      const answer = this.#options.isCrdSteady().catch(() => false);
      this.#reading = { at: now, answer };
    }
    return this.#reading.answer;
  }
}
