import { isDeepStrictEqual } from 'node:util';
import type { Condition, Status } from '../api/clusterEcrPullSecret.ts';
import { apiVersion, kind, resourcesPath } from '../api/groupVersion.ts';
import type { Clock } from '../clock.ts';
import { statusOf, type ResourceFacts } from '../core/status.ts';
import { outcomeOf, type Outcome } from '../errors.ts';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/eventRecorder.ts';
import type { BeforeSend } from '../kube/exchange.ts';
import type { KubeObject } from '../kube/kubeObject.ts';
import type { Store } from '../kube/store.ts';
import type { Logger } from '../observability/log.ts';
import type { ResourceObject } from './observedObjects.ts';

const FIRST_DELAY_MS = 100;
const INTERVAL_MS = 1_000;
const RETRY_MS = 5_000;
const LONGEST_CONFLICT_MS = 30_000;

export interface StatusWriterOptions {
  readonly client: Pick<KubeClient, 'request'>;
  readonly resources: Store<ResourceObject>;
  readonly clock: Clock;
  readonly serverNow: () => number;
  readonly log: Logger;
  readonly events: Pick<EventRecorder, 'record'>;
  /** null: nothing is known yet that is worth telling. */
  readonly factsOf: (name: string) => ResourceFacts | null;
  readonly beforeSend: BeforeSend;
  readonly redact: (text: string) => string;
}

interface Rest {
  readonly until: number; // monotonic ms
  readonly shown: string | null; // the resourceVersion in the store, whose change ends the rest; null: nothing does
  readonly conflicts: number; // one after the other
}

/** What we wrote over the version that the watch still shows. */
interface Unshown {
  readonly shown: string;
  readonly resourceVersion: string;
  readonly status: Status;
}

/** The one place that writes status: at most once a second and resource, and never what is already so. */
export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #pending = new Map<string, { at: number; cancel: () => void }>(); // name → its timer; monotonic ms
  readonly #writtenAt = new Map<string, number>();
  readonly #rests = new Map<string, Rest>();
  readonly #unshown = new Map<string, Unshown>();
  readonly #writing = new Set<string>();

  constructor(options: StatusWriterOptions) {
    this.#options = options;
  }

  /** Something has changed that the status of this resource may show. */
  schedule(name: string): void {
    const now = this.#options.clock.monotonic();
    const next = (this.#writtenAt.get(name) ?? -Infinity) + INTERVAL_MS;
    const at = Math.max(now + FIRST_DELAY_MS, next, this.#restUntil(name));
    const pending = this.#pending.get(name);
    if (pending && pending.at <= at) return;
    pending?.cancel();
    this.#arm(name, { at, delayMs: at - now });
  }

  /** It is gone. */
  forget(name: string): void {
    this.#pending.get(name)?.cancel();
    for (const known of [this.#pending, this.#writtenAt, this.#rests, this.#unshown]) known.delete(name);
  }

  stop(): void {
    for (const { cancel } of this.#pending.values()) cancel();
    this.#pending.clear();
  }

  #restUntil(name: string): number {
    const rest = this.#rests.get(name);
    if (!rest || (rest.shown !== null && rest.shown !== this.#options.resources.versionOf(name))) return 0;
    return rest.until;
  }

  #arm(name: string, { at, delayMs }: { at: number; delayMs: number }): void {
    const cancel = this.#options.clock.after(delayMs, () => {
      this.#pending.delete(name);
      if (this.#writing.has(name)) this.schedule(name);
      else void this.#write(name);
    });
    this.#pending.set(name, { at, cancel });
  }

  async #write(name: string): Promise<void> {
    this.#writing.add(name);
    try {
      await this.#writeIfChanged(name);
      this.#rests.delete(name);
    } catch (error) {
      this.#failed(name, error);
    } finally {
      this.#writing.delete(name);
    }
  }

  #failed(name: string, error: unknown): void {
    const outcome = outcomeOf(error);
    if (outcome.kind === 'Gone' || outcome.kind === 'Stopped') return void this.#rests.delete(name);
    if (outcome.kind !== 'Conflict') this.#options.log.warn({ kind, name, err: error }, 'status not written');
    this.#unshown.delete(name);
    this.#rests.set(name, this.#restAfter(outcome, name));
    // What changed while it was under way waits as well.
    this.#pending.get(name)?.cancel();
    this.#pending.delete(name);
    this.schedule(name);
  }

  // Our view of it was stale: the watch shows it soon, and that ends the rest.
  #restAfter(outcome: Outcome, name: string): Rest {
    const now = this.#options.clock.monotonic();
    if (outcome.kind !== 'Conflict') return { until: now + retryMs(outcome), shown: null, conflicts: 0 };
    const shown = this.#options.resources.versionOf(name);
    const former = this.#rests.get(name);
    const conflicts = former?.shown === shown ? former.conflicts + 1 : 1;
    const waitMs = Math.min(INTERVAL_MS * 2 ** (conflicts - 1), LONGEST_CONFLICT_MS);
    return { until: now + waitMs, shown, conflicts };
  }

  async #writeIfChanged(name: string): Promise<void> {
    const { clock, resources, serverNow, factsOf } = this.#options;
    const resource = resources.get(name);
    const facts = factsOf(name);
    if (!resource || !facts) return;
    const { resourceVersion, status: previous } = this.#latest(resource);
    const status = this.#redacted(statusOf(facts, previous, new Date(serverNow())));
    if (isDeepStrictEqual(status, previous)) return;
    this.#writtenAt.set(name, clock.monotonic());
    const answer = await this.#options.client.request<KubeObject>({
      method: 'PATCH',
      patch: 'merge',
      path: `${resourcesPath}/${name}/status`,
      // A uid would be ignored here; the version tells whether it is still the one, and as we know it.
      body: { metadata: { resourceVersion }, status: { ...erasing(previous), ...status } },
      metadataOnly: true,
      beforeSend: this.#options.beforeSend,
    });
    this.#announce(resource, { before: previous?.conditions ?? [], after: status.conditions ?? [] });
    const written = answer.metadata.resourceVersion ?? '';
    this.#unshown.set(name, { shown: resource.resourceVersion, resourceVersion: written, status });
    if (await resources.waitFor(name, written, RETRY_MS)) this.#unshown.delete(name);
  }

  /** As the watch shows it, or as we have written it since. */
  #latest({ name, resourceVersion, status }: ResourceObject): { resourceVersion: string; status?: Status | undefined } {
    const unshown = this.#unshown.get(name);
    if (unshown?.shown === resourceVersion) return unshown;
    return { resourceVersion, status: status as Status | undefined };
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
