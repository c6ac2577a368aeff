import type { Clock } from '../clock.ts';

const FREE_REPAIRS = 3;
const LONGEST_MS = 60_000;
const CALM_MS = 300_000; // after this long without a repair, the next is at once again

interface Known {
  isServed: boolean;
  repairs: number; // lately
  at: number; // of the last one, monotonic ms
}

/**
 * Keeps us from an endless fight with another writer: the first repairs of an object are immediate, later ones wait
 * twice as long each time, up to a minute. Keys are a namespace, a slash, and what it is in there.
 */
export class RepairBackoff {
  readonly #known = new Map<string, Map<string, Known>>(); // by namespace and key
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The object is as it should be: whatever has to be written to it from now on is a repair. */
  served(key: string): void {
    this.#entry(key).isServed = true;
  }

  isRepair(key: string): boolean {
    return this.#find(key)?.isServed === true;
  }

  /** How long to wait before this repair, ms; 0: now. */
  delayMs(key: string): number {
    const { repairs, at } = this.#find(key) ?? { repairs: 0, at: 0 };
    if (repairs < FREE_REPAIRS) return 0;
    const wait = Math.min(LONGEST_MS, 1_000 * 2 ** (repairs - FREE_REPAIRS));
    return Math.max(0, at + wait - this.#clock.monotonic());
  }

  /** A repair is made. Returns how many it have been lately. */
  repaired(key: string): number {
    const now = this.#clock.monotonic();
    const entry = this.#entry(key);
    entry.repairs = now - entry.at < CALM_MS ? entry.repairs + 1 : 1;
    entry.at = now;
    return entry.repairs;
  }

  /** The object is gone, or of no more concern: the next of its name is another one. */
  forget(key: string): void {
    const namespace = namespaceOf(key);
    const entries = this.#known.get(namespace);
    if (entries?.delete(key) && entries.size === 0) this.#known.delete(namespace);
  }

  forgetNamespace(namespace: string): void {
    this.#known.delete(namespace);
  }

  #find(key: string): Known | undefined {
    return this.#known.get(namespaceOf(key))?.get(key);
  }

  #entry(key: string): Known {
    const namespace = namespaceOf(key);
    const entries = this.#known.get(namespace) ?? new Map<string, Known>();
    this.#known.set(namespace, entries);
    const entry = entries.get(key) ?? { isServed: false, repairs: 0, at: -Infinity };
    entries.set(key, entry);
    return entry;
  }
}

function namespaceOf(key: string): string {
  const [namespace = ''] = key.split('/', 1);
  return namespace;
}
