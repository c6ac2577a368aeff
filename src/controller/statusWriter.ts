import { isDeepStrictEqual } from 'node:util';
import type { Condition, Status } from '../api/clusterEcrPullSecret.ts';
import { apiVersion, kind, resourcesPath } from '../api/groupVersion.ts';
import type { Clock } from '../clock.ts';
import { statusOf, type ResourceFacts } from '../core/status.ts';
import { outcomeOf, type Outcome } from '../errors.ts';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/eventRecorder.ts';
import type { KubeObject } from '../kube/kubeObject.ts';
import type { Store } from '../kube/store.ts';
import type { Logger } from '../observability/log.ts';
import type { ResourceObject } from './observedObjects.ts';

const FIRST_DELAY_MS = 100;
const INTERVAL_MS = 1_000;
const RETRY_MS = 5_000;

export interface StatusWriterOptions {
  readonly client: Pick<KubeClient, 'request'>;
  readonly resources: Store<ResourceObject>;
  readonly clock: Clock;
  readonly serverNow: () => number;
  readonly log: Logger;
  readonly events: Pick<EventRecorder, 'record'>;
  /** null: nothing is known yet that is worth telling. */
  readonly factsOf: (name: string) => ResourceFacts | null;
  readonly beforeSend: () => void;
  readonly redact: (text: string) => string;
}

/** The one place that writes status: at most once a second and resource, and never what is already so. */
export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #pending = new Map<string, () => void>(); // name → what cancels its timer
  readonly #writtenAt = new Map<string, number>();
  readonly #notBefore = new Map<string, number>(); // after a failure; monotonic ms
  readonly #writing = new Set<string>();

  constructor(options: StatusWriterOptions) {
    this.#options = options;
  }

  /** Something has changed that the status of this resource may show. */
  schedule(name: string): void {
    if (this.#pending.has(name)) return;
    const now = this.#options.clock.monotonic();
    const next = (this.#writtenAt.get(name) ?? -Infinity) + INTERVAL_MS;
    this.#arm(name, Math.max(FIRST_DELAY_MS, Math.max(next, this.#notBefore.get(name) ?? 0) - now));
  }

  stop(): void {
    for (const cancel of this.#pending.values()) cancel();
    this.#pending.clear();
  }

  #arm(name: string, delayMs: number): void {
    const cancel = this.#options.clock.after(delayMs, () => {
      this.#pending.delete(name);
      if (this.#writing.has(name)) this.schedule(name);
      else void this.#write(name);
    });
    this.#pending.set(name, cancel);
  }

  async #write(name: string): Promise<void> {
    this.#writing.add(name);
    try {
      await this.#writeIfChanged(name);
      this.#notBefore.delete(name);
    } catch (error) {
      this.#failed(name, error);
    } finally {
      this.#writing.delete(name);
    }
  }

  #failed(name: string, error: unknown): void {
    const outcome = outcomeOf(error);
    if (outcome.kind === 'Gone' || outcome.kind === 'Stopped') return void this.#notBefore.delete(name);
    const { clock, log } = this.#options;
    if (outcome.kind !== 'Conflict') log.warn({ kind, name, err: error }, 'status not written');
    this.#notBefore.set(name, clock.monotonic() + retryMs(outcome));
    // What changed while it was under way waits as well.
    this.#pending.get(name)?.();
    this.#pending.delete(name);
    this.schedule(name);
  }

  async #writeIfChanged(name: string): Promise<void> {
    const { clock, resources, serverNow, factsOf } = this.#options;
    const resource = resources.get(name);
    const facts = factsOf(name);
    if (!resource || !facts) return;
    const previous = resource.status as Status | undefined;
    const status = this.#redacted(statusOf(facts, previous, new Date(serverNow())));
    if (isDeepStrictEqual(status, previous)) return;
    this.#writtenAt.set(name, clock.monotonic());
    const answer = await this.#options.client.request<KubeObject>({
      method: 'PATCH',
      patch: 'merge',
      path: `${resourcesPath}/${name}/status`,
      // A uid would be ignored here; the version tells whether it is still the one, and as we know it.
      body: { metadata: { resourceVersion: resource.resourceVersion }, status: { ...erasing(previous), ...status } },
      metadataOnly: true,
      beforeSend: this.#options.beforeSend,
    });
    this.#announce(resource, { before: previous?.conditions ?? [], after: status.conditions ?? [] });
    await resources.waitFor(name, answer.metadata.resourceVersion ?? '', RETRY_MS);
  }

  #redacted(status: Status): Status {
    return JSON.parse(this.#options.redact(JSON.stringify(status))) as Status;
  }

  // One event for each condition whose status or reason is new.
  #announce(
    resource: ResourceObject,
    { before, after }: { before: readonly Condition[]; after: readonly Condition[] },
  ): void {
    for (const condition of after) {
      const former = before.find(({ type }) => type === condition.type);
      if (former?.status === condition.status && former.reason === condition.reason) continue;
      if (condition.status === 'Unknown' || condition.type === 'Reconciling') continue;
      this.#options.log.info(
        { kind, name: resource.name, condition: condition.type, status: condition.status, reason: condition.reason },
        condition.message,
      );
      this.#options.events.record({
        regarding: { apiVersion, kind, name: resource.name, uid: resource.uid },
        type: isBad(condition) ? 'Warning' : 'Normal',
        reason: condition.reason,
        action: condition.type,
        note: condition.message,
      });
    }
  }
}

function retryMs(outcome: Outcome): number {
  // Our view of it was stale: the watch shows it soon.
  if (outcome.kind === 'Conflict') return INTERVAL_MS;
  return outcome.kind === 'Throttled' ? Math.max(RETRY_MS, outcome.retryAfterMs) : RETRY_MS;
}

// Ready and Refreshed are good when true, all others are told only while something is wrong.
function isBad({ type, status }: Condition): boolean {
  return (type === 'Ready' || type === 'Refreshed') === (status === 'False');
}

// A merge patch keeps what it does not name.
function erasing(previous: Status | undefined): Record<string, null> {
  return Object.fromEntries(Object.keys(previous ?? {}).map((key) => [key, null]));
}
