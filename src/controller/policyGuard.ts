import { sleep, type Clock } from '../clock.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Logger } from '../observability/log.ts';
import { isPolicyInForce } from './policyProbe.ts';

// A policy is in force within seconds of being applied; who installs it after us waits no longer than that.
const WAIT_MS = 30_000;
const TRY_AGAIN_MS = 1_000;
const LOOK_AGAIN_MS = 5_000; // nothing tells of a policy that has come into force; whoever installs it looks at the condition

export interface PolicyGuardOptions {
  readonly client: Pick<KubeClient, 'request'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly namespace: string; // the operator's own
  readonly secretName: string;
  readonly onChange: (inForce: boolean) => void;
}

/** Knows whether the API server enforces our limits, and goes on looking while it does not. */
export class PolicyGuard {
  readonly #options: PolicyGuardOptions;
  readonly #stopping = new AbortController();
  #isInForce = true; // nothing is told before it is known
  #cancel: () => void = () => {};

  constructor(options: PolicyGuardOptions) {
    this.#options = options;
  }

  get isInForce(): boolean {
    return this.#isInForce;
  }

  /** Waits until a takeover is refused, 30 s at most; then the operator goes on, and says so. */
  async settle(): Promise<void> {
    const { clock, log } = this.#options;
    const until = clock.monotonic() + WAIT_MS;
    while (!(await this.#probe()) && !this.#stopping.signal.aborted) {
      if (clock.monotonic() >= until) {
        log.warn(
          {},
          'the ValidatingAdmissionPolicy ecr-pull-secrets is not in force: the API server does not enforce our limits',
        );
        this.#conclude(false);
        return;
      }
      await sleep(clock, TRY_AGAIN_MS, this.#stopping.signal);
    }
    this.#conclude(true);
  }

  stop(): void {
    this.#stopping.abort();
    this.#cancel();
  }

  #conclude(inForce: boolean): void {
    this.#isInForce = inForce;
    this.#options.onChange(inForce);
    if (!inForce) this.#cancel = this.#options.clock.after(LOOK_AGAIN_MS, () => void this.#lookAgain());
  }

  async #lookAgain(): Promise<void> {
    if (!this.#stopping.signal.aborted) this.#conclude(await this.#probe());
  }

  // An API server that does not answer proves nothing.
  async #probe(): Promise<boolean> {
    try {
      return await isPolicyInForce(this.#options.client, this.#options);
    } catch {
      return false;
    }
  }
}
