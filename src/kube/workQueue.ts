import type { Clock } from '../clock.ts';
import { RefreshPace } from './refreshPace.ts';

/** `urgent`: somebody waits. `refresh`: there is time, and the server is not to be flooded. */
export type Lane = 'urgent' | 'refresh';

export interface WorkItem {
  key: string;
  lane: Lane;
}

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 45_000;
const REFRESH_SHARE = 8; // while both lanes wait, each eighth take is one of the refresh lane: it is never starved

/**
 * Keys to work on, with client-go's semantics: a key waits at most once, is never with two workers, and one that is added
 * while it is worked on is worked on once more. Within a lane first come, first served; a key that waits in the refresh
 * lane and is added as urgent moves to urgent.
 */
export class WorkQueue {
  readonly #clock: Clock;
  readonly #pace: RefreshPace;
  readonly #waiting: Record<Lane, Map<string, number>> = { urgent: new Map(), refresh: new Map() }; // since, monotonic ms
  readonly #processing = new Set<string>();
  readonly #again = new Map<string, Lane>(); // added while processing
  readonly #delayed = new Map<string, { at: number; lane: Lane; cancel: () => void }>();
  readonly #failures = new Map<string, number>();
  readonly #takers = new Set<(item: WorkItem) => void>(); // in the order in which they came
  #urgentInRow = 0;
  #cancelWake: () => void = () => undefined;

  constructor(o: { clock: Clock; refreshPerSecond: () => number }) {
    this.#clock = o.clock;
    this.#pace = new RefreshPace(o);
  }

  add(key: string, lane: Lane): void {
    if (this.#processing.has(key)) {
      this.#again.set(key, stronger(lane, this.#again.get(key)));
      return;
    }
    if (this.#waiting.urgent.has(key)) return;
    if (lane === 'refresh' && this.#waiting.refresh.has(key)) return;
    this.#waiting.refresh.delete(key);
    this.#waiting[lane].set(key, this.#clock.monotonic());
    this.#serve();
  }

  /** Adds it as urgent, but where it waits in the refresh lane its turn there is soon enough. */
  lookAt(key: string): void {
    if (!this.#waiting.refresh.has(key)) this.add(key, 'urgent');
  }

  /** Adds it later. Where it waits for its time already, the earlier time and the stronger lane win. */
  addAfter(key: string, lane: Lane, delayMs: number): void {
    if (delayMs <= 0) return this.add(key, lane);
    const known = this.#delayed.get(key);
    const at = Math.min(this.#clock.monotonic() + delayMs, known?.at ?? Infinity);
    known?.cancel();
    const item = { at, lane: stronger(lane, known?.lane) };
    const cancel = this.#clock.after(at - this.#clock.monotonic(), () => {
      this.#delayed.delete(key);
      this.add(key, item.lane);
    });
    this.#delayed.set(key, { ...item, cancel });
  }

  /** Adds it after a delay that doubles with each failure since `forget`: 1 s to 45 s. Returns the delay in ms. */
  retry(key: string, lane: Lane): number {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const delay = Math.min(FIRST_RETRY_MS * 2 ** failures, LONGEST_RETRY_MS);
    this.addAfter(key, lane, delay);
    return delay;
  }

  /** It went well: the next failure is the first again. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** The next key, as soon as there is one; null when the signal fires. Each must be given back with `done`. */
  take(signal: AbortSignal): Promise<WorkItem | null> {
    if (signal.aborted) return Promise.resolve(null);
    return new Promise((resolve) => {
      const onAbort = (): void => {
        this.#takers.delete(taker);
        resolve(null);
      };
      const taker = (item: WorkItem): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(item);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#takers.add(taker);
      this.#serve();
    });
  }

  done(key: string): void {
    this.#processing.delete(key);
    const lane = this.#again.get(key);
    this.#again.delete(key);
    if (lane !== undefined) this.add(key, lane);
  }

  depth(lane: Lane): number {
    return this.#waiting[lane].size;
  }

  /** How long the first one in this lane has waited, in ms; 0 where none waits. */
  oldestMs(lane: Lane): number {
    const [first] = this.#waiting[lane].values();
    return first === undefined ? 0 : this.#clock.monotonic() - first;
  }

  /** Forgets everything that waits. What is being worked on stays until `done`. */
  clear(): void {
    this.#waiting.urgent.clear();
    this.#waiting.refresh.clear();
    this.#again.clear();
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#failures.clear();
  }

  #serve(): void {
    for (const taker of this.#takers) {
      const item = this.#next();
      if (item === null) return this.#wakeForRefresh();
      this.#takers.delete(taker);
      this.#processing.add(item.key);
      taker(item);
    }
  }

  #next(): WorkItem | null {
    const { urgent, refresh } = this.#waiting;
    const urgentFirst = urgent.size > 0 && (refresh.size === 0 || this.#urgentInRow < REFRESH_SHARE - 1);
    if (urgentFirst || !this.#mayRefresh()) return this.#shift('urgent');
    return this.#shift('refresh');
  }

  #mayRefresh(): boolean {
    return this.#waiting.refresh.size > 0 && this.#pace.take();
  }

  #shift(lane: Lane): WorkItem | null {
    const [key] = this.#waiting[lane].keys();
    if (key === undefined) return null;
    this.#waiting[lane].delete(key);
    this.#urgentInRow = lane === 'urgent' ? this.#urgentInRow + 1 : 0;
    return { key, lane };
  }

  #wakeForRefresh(): void {
    this.#cancelWake();
    if (this.#waiting.refresh.size === 0) return;
    this.#cancelWake = this.#clock.after(this.#pace.waitMs(), () => this.#serve());
  }
}

function stronger(lane: Lane, other: Lane | undefined): Lane {
  return lane === 'urgent' || other === 'urgent' ? 'urgent' : 'refresh';
}
