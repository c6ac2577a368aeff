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

/** Knows whether the API server enforces our limits, and goes on looking while it does not, or has not said so. */
export class PolicyGuard {
  readonly #options: PolicyGuardOptions;
  readonly #stopping = new AbortController();
  #known: boolean | null = null;
  #cancel: () => void = () => {};

  constructor(options: PolicyGuardOptions) {
    this.#options = options;
  }

  /** Nothing is told before it is known. */
  get isInForce(): boolean {
    return this.#known ?? true;
  }

  /** Waits until a takeover is refused, 30 s at most; then the operator goes on, and says so. */
  async settle(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stopping;
    const until = clock.monotonic() + WAIT_MS;
    let isInForce = await this.#probe();
    while (isInForce !== true && clock.monotonic() < until && !signal.aborted) {
      await sleep(clock, TRY_AGAIN_MS, signal);
      isInForce = await this.#probe();
    }
    if (isInForce === null && !signal.aborted) {
      log.warn(
        {},
        'it is not known whether the ValidatingAdmissionPolicy ecr-pull-secrets is in force: the API server has not answered',
      );
    }
    this.#conclude(isInForce);
  }

  stop(): void {
    this.#stopping.abort();
    this.#cancel();
  }

  #conclude(isInForce: boolean | null): void {
    if (this.#stopping.signal.aborted) return;
    if (isInForce !== null) this.#learn(isInForce);
    if (isInForce !== true) this.#cancel = this.#options.clock.after(LOOK_AGAIN_MS, () => void this.#lookAgain());
  }

  #learn(isInForce: boolean): void {
    if (isInForce === this.#known) return;
    this.#known = isInForce;
    const { log, onChange } = this.#options;
    if (!isInForce) {
      log.warn(
        {},
        'the ValidatingAdmissionPolicy ecr-pull-secrets is not in force: the API server does not enforce our limits',
      );
    }
    onChange(isInForce);
  }

  async #lookAgain(): Promise<void> {
    this.#conclude(await this.#probe());
  }

  // null: an API server that does not answer proves nothing.
  async #probe(): Promise<boolean | null> {
    try {
      return await isPolicyInForce(this.#options.client, this.#options);
    } catch {
      return null;
    }
  }
}
