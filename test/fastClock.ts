import { systemClock, type Clock } from '../src/clock.ts';

/** A clock that runs `speed` times as fast: minutes of lives and delays pass in seconds, beside servers that are real. */
export function fastClock(speed: number): Clock {
  const [wallStart, monotonicStart] = [systemClock.now(), systemClock.monotonic()];
  const elapsed = (): number => (systemClock.monotonic() - monotonicStart) * speed;
  return {
    now: () => wallStart + elapsed(),
    monotonic: elapsed,
    after: (ms, fn) => systemClock.after(ms / speed, fn),
  };
}
