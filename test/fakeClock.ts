import type { Clock } from '../src/clock.ts';

interface Timer {
  due: number; // ms on the monotonic clock
  order: number;
  fn: () => void;
}

/** A clock that stands still until it is told to move. Timers run on its monotonic time; wall time may be set apart. */
export class FakeClock implements Clock {
  #monotonic = 0; // ms
  #wall: number; // ms since the epoch
  #order = 0;
  readonly #timers = new Set<Timer>();

  constructor(wall: number | string | Date = '2026-01-01T00:00:00Z') {
    this.#wall = new Date(wall).getTime();
  }

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  after(ms: number, fn: () => void): () => void {
    const timer = { due: this.#monotonic + Math.max(0, ms), order: this.#order++, fn };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** How many timers wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** When the next timer is due, in ms from now; null where none waits. */
  get nextIn(): number | null {
    const next = this.#next();
    return next === undefined ? null : Math.max(0, next.due - this.#monotonic);
  }

  /** Moves both clocks on, running what comes due in order and letting promises settle in between. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    await flush();
    for (let timer = this.#next(); timer !== undefined && timer.due <= end; timer = this.#next()) {
      this.#move(Math.max(0, timer.due - this.#monotonic));
      this.#timers.delete(timer);
      timer.fn();
      await flush();
    }
    this.#move(end - this.#monotonic);
    await flush();
  }

  /** Moves wall time alone: an NTP step. */
  setWall(wall: number | string | Date): void {
    this.#wall = new Date(wall).getTime();
  }

  /** Moves time without running any timer: what a stopped process (SIGSTOP, suspend) finds when it wakes. */
  jump(ms: { wall?: number; monotonic?: number }): void {
    this.#wall += ms.wall ?? 0;
    this.#monotonic += ms.monotonic ?? 0;
  }

  #move(ms: number): void {
    this.#monotonic += ms;
    this.#wall += ms;
  }

  #next(): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (next === undefined || timer.due < next.due || (timer.due === next.due && timer.order < next.order)) {
        next = timer;
      }
    }
    return next;
  }
}

/** Lets everything that waits only for promises, or for a turn of the event loop, go on. */
export async function flush(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}
