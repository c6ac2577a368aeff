/** Time as an argument: who needs it is handed one of these; tests hand in a fake. */
export interface Clock {
  /** Wall time, ms since the epoch. May jump. */
  now(): number;
  /** Monotonic time, ms from an arbitrary start. Never jumps, and may stand still while the machine is suspended. */
  monotonic(): number;
  /** Calls `fn` once after `ms`, however large; returns what cancels it. The timer keeps no process alive. */
  after(ms: number, fn: () => void): () => void;
}

/** A number in [0, 1), for jitter. */
export type Random = () => number;

// setTimeout above 2^31-1 ms fires at once.
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, fn) {
    let timer: NodeJS.Timeout;
    const arm = (left: number): void => {
      const step = Math.min(left, LONGEST_TIMEOUT_MS);
      timer = setTimeout(() => (left > step ? arm(left - step) : fn()), Math.max(0, step));
      timer.unref();
    };
    arm(ms);
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms`, or at once when the signal fires. Never rejects. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = (): void => {
      cancel();
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    const cancel = clock.after(ms, finish);
    signal?.addEventListener('abort', finish, { once: true });
  });
}
