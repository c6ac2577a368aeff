import type { Clock } from '../clock.ts';
import { StoppedError, ThrottledError, TransientError, type OperatorError } from '../errors.ts';

const OUTAGE_MS = 3000; // failing for less is left to the back-offs, which are short by then

/**
 * Whether the API server answers, as all clients of one process find it together: the renewals of a lease tell it within
 * two seconds, while a reflector may have half a minute of back-off before it.
 */
export class ServerContact {
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();
  #failingSince: number | null = null; // monotonic ms

  constructor({ clock }: { clock: Clock }) {
    this.#clock = clock;
  }

  /** What became of a request; null where it succeeded. A refusal is an answer, too; being asked for patience is neither. */
  note(error: OperatorError | null): void {
    if (error instanceof StoppedError || error instanceof ThrottledError) return;
    if (error instanceof TransientError) this.#failingSince ??= this.#clock.monotonic();
    else this.#answered();
  }

  /** Waits `ms`, or until the signal fires, or until the server answers again after an outage: only then true. */
  untilBack(ms: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve(false);
      const finish = (isBack: boolean): void => {
        cancel();
        this.#waiting.delete(onBack);
        signal.removeEventListener('abort', onOver);
        resolve(isBack);
      };
      const onBack = (): void => finish(true);
      const onOver = (): void => finish(false);
      const cancel = this.#clock.after(ms, onOver);
      this.#waiting.add(onBack);
      signal.addEventListener('abort', onOver);
    });
  }

  #answered(): void {
    const since = this.#failingSince;
    this.#failingSince = null;
    if (since === null || this.#clock.monotonic() - since < OUTAGE_MS) return;
    for (const wake of this.#waiting) wake();
  }
}
