import type { Clock } from '../clock.ts';

// Two readings of one clock may be a moment apart.
const TOLERANCE_MS = 50;

/**
 * The server's time between its answers. A step of the local clock back does not make it stand still, nor does a
 * suspended machine, whose monotonic clock may have stopped: of the two times that have passed the longer counts, until
 * a server's answer tells better.
 */
export class ServerTime {
  readonly #clock: Clock;
  readonly #serverNow: () => number;
  #anchor: { server: number; monotonic: number; offset: number };

  /** `serverNow` is the local wall time plus what the last answer's `Date` says it is off by. */
  constructor(clock: Clock, serverNow: () => number) {
    this.#clock = clock;
    this.#serverNow = serverNow;
    this.#anchor = this.#read();
  }

  /** ms since the epoch, on the server's clock. */
  now(): number {
    const read = this.#read();
    const estimate = this.#anchor.server + (read.monotonic - this.#anchor.monotonic);
    const hasNews = Math.abs(read.offset - this.#anchor.offset) > TOLERANCE_MS;
    if (!hasNews && read.server < estimate) return estimate;
    this.#anchor = read;
    return read.server;
  }

  #read(): { server: number; monotonic: number; offset: number } {
    const server = this.#serverNow();
    return { server, monotonic: this.#clock.monotonic(), offset: server - this.#clock.now() };
  }
}

/** Measures from a moment on; of wall and monotonic time the longer counts. */
export class Stopwatch {
  readonly #clock: Clock;
  readonly #wall: number;
  readonly #monotonic: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#wall = clock.now();
    this.#monotonic = clock.monotonic();
  }

  elapsedMs(): number {
    return Math.max(this.#clock.now() - this.#wall, this.#clock.monotonic() - this.#monotonic);
  }
}
