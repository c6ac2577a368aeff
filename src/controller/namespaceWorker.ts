import type { Clock } from '../clock.ts';
import type { Write } from '../core/diffNamespace.ts';
import { outcomeOf, type Outcome } from '../errors.ts';
import { ApiStatusError } from '../kube/apiStatusError.ts';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/eventRecorder.ts';
import type { BeforeSend } from '../kube/exchange.ts';
import type { Lane, WorkQueue } from '../kube/workQueue.ts';
import type { Logger } from '../observability/log.ts';
import type { WriteContext } from './applyWrites.ts';
import type { Caches } from './caches.ts';
import type { NamespaceState } from './namespaceOutcomes.ts';
import type { SecretObject } from './observedObjects.ts';
import { OwnWrites } from './ownWrites.ts';
import { Patience } from './patience.ts';
import type { Permissions } from './permissions.ts';
import { isPolicyDenial } from './policyProbe.ts';
import { reconcileNamespace, type ReconcileContext, type ReconcileResult } from './reconcileNamespace.ts';
import { announceClone, announceRecreation, announceRepair } from './repairEvents.ts';

export interface NamespaceWorkerOptions {
  readonly queue: WorkQueue;
  readonly clock: Clock;
  readonly client: KubeClient;
  readonly caches: Caches;
  readonly permissions: Permissions;
  readonly events: EventRecorder;
  readonly log: Logger;
  readonly secretName: string;
  /** Whether work is ours to do, and can be done on what is known. */
  readonly mayWork: () => boolean;
  readonly term: BeforeSend;
  readonly reconcile: Pick<ReconcileContext, 'snapshot' | 'resources' | 'tokenOf' | 'hashOf' | 'removals' | 'repairs'>;
  readonly onDone: (namespace: string) => void;
}

const CONFLICTS_BEFORE_BACKOFF = 3;
const CONFLICT_RETRY_MS = 20;

/** Takes namespaces from the queue, one at a time, and decides by the outcome when each is tried again. */
export class NamespaceWorker {
  readonly #options: NamespaceWorkerOptions;
  readonly #context: ReconcileContext;
  readonly #states = new Map<string, NamespaceState>();
  readonly #conflicts = new Map<string, number>();
  readonly #patience: Patience;
  readonly #ownWrites: OwnWrites;
  #hasWritten = false;

  constructor(options: NamespaceWorkerOptions) {
    this.#options = options;
    this.#patience = new Patience(options.clock);
    this.#ownWrites = new OwnWrites(options);
    this.#context = {
      ...options.reconcile,
      secretName: options.secretName,
      catchUp: (namespace, writes) => this.#ownWrites.catchUp(namespace, writes),
      writeContext: (namespace) => this.#writeContext(namespace),
      repaired: (write: Write, namespace, count) => announceRepair(write, { namespace, count, ...options }),
      cloneRemoved: ({ observed }, namespace) => announceClone(observed as SecretObject, { namespace, ...options }),
    };
  }

  /** How the last run of a namespace ended; undefined before the first. */
  stateOf(namespace: string): NamespaceState | undefined {
    return this.#states.get(namespace);
  }

  /** Whether anything was written since `startAnew`. */
  get hasWritten(): boolean {
    return this.#hasWritten;
  }

  startAnew(): void {
    this.#hasWritten = false;
    this.#patience.clear();
    this.#ownWrites.clear();
  }

  forget(namespace: string): void {
    this.#states.delete(namespace);
    this.#conflicts.delete(namespace);
    this.#patience.forget(namespace);
    this.#ownWrites.forget(namespace);
  }

  /** Works until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { queue, mayWork } = this.#options;
    for (let item = await queue.take(signal); item; item = await queue.take(signal)) {
      // A refusal is of this one, also where the watch shows another by then.
      const shown = this.#options.caches.namespaces.store.get(item.key);
      try {
        if (mayWork()) await this.#reconcile(item.key, item.lane, shown);
      } catch (error) {
        this.#failed(item.key, item.lane, { error, shown }); // a bug of ours ends no worker
      } finally {
        queue.done(item.key);
      }
    }
  }

  async #reconcile(name: string, lane: Lane, shown: unknown): Promise<void> {
    const leftMs = this.#patience.leftMs(name, shown);
    if (leftMs > 0) return this.#options.queue.addAfter(name, lane, leftMs);
    const result = await reconcileNamespace(name, this.#context).catch(failedRun);
    if (result.written > 0) this.#hasWritten = true;
    const worst = await this.#worstOf(name, result.errors);
    if (worst === undefined) this.#succeeded(name, result);
    else this.#failed(name, lane, { error: worst, shown });
    if (result.requeueMs !== null) this.#options.queue.addAfter(name, 'urgent', result.requeueMs);
    this.#options.onDone(name);
  }

  #succeeded(name: string, { state, written }: ReconcileResult): void {
    this.#options.queue.forget(name);
    this.#conflicts.delete(name);
    this.#patience.forget(name);
    if (state) this.#states.set(name, state);
    else this.#states.delete(name);
    if (written > 0) this.#options.log.debug({ kind: 'Namespace', name, writes: written }, 'namespace written');
  }

  async #worstOf(namespace: string, errors: readonly unknown[]): Promise<unknown> {
    for (const error of errors) await this.#lookInto(error, namespace);
    return errors.toSorted((a, b) => severity(b) - severity(a))[0];
  }

  // A missing right is everybody's matter; a quota's or a webhook's 403 is this namespace's.
  async #lookInto(error: unknown, namespace: string): Promise<void> {
    if (!(error instanceof ApiStatusError) || error.status !== 403 || isPolicyDenial(error)) return;
    const { verb, resource, objectName } = error;
    if (resource === null) return;
    const name = objectName === undefined ? {} : { name: objectName };
    try {
      await this.#options.permissions.confirmMissing({ verb, group: '', resource, namespace, ...name });
    } catch (err) {
      // What was refused is told all the same, and looked into when it is refused again.
      this.#options.log.warn({ kind: 'Namespace', name: namespace, err }, 'not known whether a right is missing');
    }
  }

  #failed(name: string, lane: Lane, { error, shown }: { error: unknown; shown: unknown }): void {
    const { queue } = this.#options;
    const outcome = outcomeOf(error);
    switch (outcome.kind) {
      case 'Gone':
        this.#patience.gone(name, shown);
        return queue.forget(name);
      case 'Done':
      case 'Stopped':
        return queue.forget(name);
      case 'Conflict':
        return this.#conflicted(name);
      case 'Throttled':
        this.#patience.throttled(name, outcome.retryAfterMs);
        return queue.addAfter(name, lane, outcome.retryAfterMs);
      case 'Transient':
      case 'Configuration':
      case 'Unexpected':
        this.#patience.failed(name);
        return this.#setFailure(name, outcome, { error, retryMs: queue.retry(name, lane) });
    }
  }

  // Read again, decide again, at once; but an endless fight is slowed down.
  #conflicted(name: string): void {
    const conflicts = (this.#conflicts.get(name) ?? 0) + 1;
    this.#conflicts.set(name, conflicts);
    if (conflicts > CONFLICTS_BEFORE_BACKOFF) this.#options.queue.retry(name, 'urgent');
    else this.#options.queue.addAfter(name, 'urgent', CONFLICT_RETRY_MS * conflicts);
  }

  #setFailure(
    name: string,
    { kind, code, message }: Extract<Outcome, { message: string }>,
    { error, retryMs }: { error: unknown; retryMs: number },
  ): void {
    const isForeign = code === 'ForeignSecret' || code === 'WrongSecretType';
    this.#states.set(name, isForeign ? { kind: 'Blocked', message } : { kind: 'Failed', code, message });
    const bug = kind === 'Unexpected' ? { err: error } : {};
    this.#options.log.warn({ kind: 'Namespace', name, code, retryMs, ...bug }, message);
  }

  #writeContext(namespace: string): WriteContext {
    const { client, secretName, term } = this.#options;
    const ownWrites = this.#ownWrites;
    return {
      ...{ client, namespace, secretName, beforeSend: term },
      seen: (kind, name, resourceVersion) => ownWrites.seen(namespace, { kind, name }, resourceVersion),
      seenGone: (name, resourceVersion) => ownWrites.seenGone(namespace, name, resourceVersion),
      recreated: () => announceRecreation({ namespace, ...this.#options }),
    };
  }
}

function failedRun(error: unknown): ReconcileResult {
  return { state: null, written: 0, errors: [error], requeueMs: null };
}

// Which of several errors decides when the namespace is tried again.
function severity(error: unknown): number {
  return ['Gone', 'Stopped', 'Conflict', 'Transient', 'Throttled', 'Configuration', 'Unexpected'].indexOf(
    outcomeOf(error).kind,
  );
}
