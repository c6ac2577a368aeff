import type { TokenBroker } from '../aws/tokenBroker.ts';
import type { Clock } from '../clock.ts';
import { whyNotSelected } from '../core/namespaceSelection.ts';
import type { ResourceView } from '../core/planNamespace.ts';
import type { NamespaceFacts, ResourceFacts } from '../core/status.ts';
import { StoppedError } from '../errors.ts';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/eventRecorder.ts';
import { WorkQueue, type Lane } from '../kube/workQueue.ts';
import type { Logger } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import { reflectorsOf, type Caches } from './caches.ts';
import { listen } from './enqueue.ts';
import { namespaceFacts } from './namespaceOutcomes.ts';
import { NamespaceWorker } from './namespaceWorker.ts';
import { Permissions } from './permissions.ts';
import { RemovalGate } from './removalGate.ts';
import { entryKey } from './reconcileNamespace.ts';
import { RepairBackoff } from './repairBackoff.ts';
import { ResourceBook } from './resourceBook.ts';
import type { ResolvedResource } from './resolveResource.ts';
import { StatusWriter } from './statusWriter.ts';
import { Tokens } from './tokens.ts';
import { View } from './view.ts';

export interface ControllerOptions {
  readonly client: KubeClient;
  readonly caches: Caches;
  readonly broker: Pick<TokenBroker, 'setWants' | 'hostStatus'>;
  readonly clock: Clock;
  readonly serverNow: () => number; // ms, on the server's clock
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly events: EventRecorder;
  readonly isLeader: () => boolean;
  /** Ends with our leadership; throws StoppedError where it is over. */
  readonly term: () => AbortSignal;
  readonly isGuarded: () => boolean;
  readonly redact: (text: string) => string;
  readonly env: NodeJS.ProcessEnv;
  readonly namespace: string; // the operator's own
  readonly secretName: string;
  readonly credentialSecretNames: readonly string[];
  readonly removalDelayMs: number;
  readonly refreshRate: number; // namespaces a second
}

// As many as the server takes: more than this only wait in its queues (priority and fairness answers 429).
const WORKERS = 24;
const SETTLE_AGAIN_MS = 5_000;
const TRUST_MARGIN_MS = 1_000;
const FINISH_MS = 500; // a namespace that is being written is finished, where its writes do not hang

/**
 * Reflectors change stores, stores name namespaces, workers take a name and make the namespace what it should be. Only
 * the leader works; on a standby the stores are kept warm and nothing is written.
 */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #book: ResourceBook;
  readonly #tokens: Tokens;
  readonly #view: View;
  readonly #queue: WorkQueue;
  readonly #removals: RemovalGate;
  readonly #repairs: RepairBackoff;
  readonly #permissions: Permissions;
  readonly #worker: NamespaceWorker;
  readonly #status: StatusWriter;
  readonly #stopping = new AbortController();
  readonly #timers = new Map<string, () => void>();
  #workers: Promise<void>[] = [];
  #isOver = false; // no write may begin
  #leads = false; // the lease is ours, and what the last leader knew of tokens is known
  #stopListening: () => void = () => {};

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { clock, client, caches, serverNow, log, events, secretName, removalDelayMs } = options;
    const { env, namespace, credentialSecretNames, refreshRate } = options;
    const credentialSecret = (name: string) => caches.credentials.get(name)?.store.get(`${namespace}/${name}`);
    const context = { env, namespace, credentialSecretNames, credentialSecret };
    this.#book = new ResourceBook({ caches, client, clock, serverNow, removalDelayMs, context });
    this.#tokens = new Tokens({ broker: options.broker, book: this.#book });
    this.#permissions = new Permissions({ client, clock, onChange: () => this.#reconsider() });
    this.#view = new View({ caches, permissions: this.#permissions, secretName });
    const refreshPerSecond = (): number =>
      this.#tokens.pace(refreshRate, { waiting: this.#queue.depth('refresh'), now: serverNow() });
    this.#queue = new WorkQueue({ clock, refreshPerSecond });
    this.#removals = new RemovalGate({
      ...{ clock, delayMs: removalDelayMs },
      isViewTrusted: () => this.#view.isTrusted,
      isCrdSteady: () => this.#book.isSteady(),
    });
    this.#repairs = new RepairBackoff(clock);
    this.#worker = new NamespaceWorker({
      ...{ clock, client, caches, events, log, secretName, queue: this.#queue, permissions: this.#permissions },
      mayWork: () => this.#mayLead() && this.#view.isComplete && this.#view.mayWriteSecrets,
      term: () => this.term(),
      reconcile: {
        snapshot: (name) => this.#view.snapshot(name),
        resources: () => this.#book.resources,
        tokenOf: (resource, host) => this.#tokens.stateOf(resource, host),
        hashOf: (auth) => this.#tokens.hashOf(auth),
        removals: this.#removals,
        repairs: this.#repairs,
      },
      onDone: (name) => this.#namespaceDone(name),
    });
    this.#status = new StatusWriter({
      ...{ client, clock, serverNow, log, events, redact: options.redact, resources: caches.resources.store },
      factsOf: (name) => this.#factsOf(name),
      beforeSend: () => this.term(),
    });
  }

  start(): void {
    const { caches } = this.#options;
    this.#stopListening = listen(caches, {
      queue: this.#queue,
      namespaceGone: (name) => this.#namespaceGone(name),
      namespaceChanged: (name) => this.#namespaceChanged(name),
      serviceAccountGone: (namespace, name) => this.#repairs.forget(entryKey(namespace, name)),
      resourceChanged: (name) => this.#resourceChanged(name),
      resourceGone: (name) => this.#resourceGone(name),
      credentialsChanged: (secretName) => this.#credentialsChanged(secretName),
      crdReplaced: () => caches.resources.reflector.relist(),
      statusChanged: (name) => this.#status.schedule(name),
    });
    caches.resources.reflector.onListed(() => {
      this.#book.listed();
      this.#reconsider();
    });
    for (const reflector of reflectorsOf(caches)) {
      reflector.onStateChange(() => this.#lookAtAll((name) => this.#queue.lookAt(name)));
      reflector.start();
    }
    this.#workers = Array.from({ length: WORKERS }, () => this.#worker.run(this.#stopping.signal));
  }

  /** Ends all work; resolves when the last write has been answered. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#stopListening();
    for (const cancel of this.#timers.values()) cancel();
    this.#permissions.stop();
    this.#status.stop();
    // A write that has been answered is done, whether its watch shows it or not.
    const { secrets, serviceAccounts } = this.#options.caches;
    for (const { store } of secrets.values()) store.endWaits();
    serviceAccounts?.store.endWaits();
    this.#options.clock.after(FINISH_MS, () => (this.#isOver = true));
    await Promise.all(this.#workers);
    await Promise.all(reflectorsOf(this.#options.caches).map((reflector) => reflector.stop()));
  }

  /** The lease is ours and the tokens are known: what is not as it should be is put right; what is, costs nothing. */
  lead(): void {
    this.#leads = true;
    this.#worker.startAnew();
    this.#reconsider();
  }

  /** The lease is somebody else's. */
  follow(): void {
    this.#leads = false;
    this.#queue.clear();
  }

  /** Nothing of what was seen can be relied upon: etcd was restored, and the watches may show nothing of that. */
  listAnew(): void {
    for (const reflector of reflectorsOf(this.#options.caches)) reflector.relist();
  }

  /** What writes that are on their way end with. Throws StoppedError where they would be another leader's. */
  term(): AbortSignal {
    if (this.#isOver) throw new StoppedError('Stopping', 'the process ends');
    return this.#options.term();
  }

  /** null, or what is missing before the operator can be relied upon. */
  whyNotReady(): string | null {
    const { namespaces, resources } = this.#options.caches;
    const waiting = [namespaces.reflector, resources.reflector].find(({ state }) => !state.everSynced);
    if (!waiting) return null;
    return `${waiting.kind} not listed yet${waiting.state.error ? `: ${waiting.state.error.message}` : ''}`;
  }

  /** The broker has news of these hosts. */
  tokensChanged({ key, hosts, reason }: { key: string; hosts: readonly string[]; reason: string }): void {
    const users = this.#book.all.filter(({ keys }) => hosts.some((host) => keys.get(host) === key));
    for (const { object } of users) this.#status.schedule(object.name);
    if (reason === 'failure') return;
    // Who holds a token can wait for the next one; who has none waits for this.
    const waiting = this.#queue.depth('refresh');
    const lane: Lane = reason === 'token' && this.#tokens.noteNew(key, hosts, { waiting }) ? 'refresh' : 'urgent';
    this.#enqueueSelected(
      users.map(({ view }) => view),
      lane,
    );
  }

  /** The policy came or went. */
  guardChanged(): void {
    this.#scheduleAllStatus();
  }

  /** Fills in what is read off the stores at the time of a scrape. */
  measure(): void {
    const { metrics, caches, isLeader } = this.#options;
    for (const lane of ['urgent', 'refresh'] as const) {
      metrics.queue(lane, this.#queue.depth(lane), this.#queue.oldestMs(lane) / 1_000);
    }
    for (const reflector of reflectorsOf(caches)) metrics.staleness(reflector.kind, reflector.state.staleMs / 1_000);
    metrics.leader(isLeader());
    for (const { object, view } of this.#book.all) {
      const { matched, ready, blocked, failed } = this.#namespaceFactsOf(view);
      metrics.namespaces(object.name, { matched, ready, blocked: blocked.length, failed: failed.length });
    }
  }

  #namespaceGone(name: string): void {
    this.#worker.forget(name);
    this.#removals.forget(name);
    this.#repairs.forgetNamespace(name);
    this.#queue.forget(name);
    this.#scheduleAllStatus();
  }

  // Whoever selected it before may do so no more: all count anew.
  #namespaceChanged(name: string): void {
    this.#queue.add(name, 'urgent');
    this.#scheduleAllStatus();
  }

  #namespaceDone(name: string): void {
    const namespace = this.#options.caches.namespaces.store.get(name);
    if (!namespace) return this.#namespaceGone(name); // while the run was under way
    for (const { object, view } of this.#book.all) {
      if (whyNotSelected(view.namespaces, namespace) === null) this.#status.schedule(object.name);
    }
  }

  #resourceChanged(name: string): void {
    this.#book.read(name);
    this.#reconsider();
  }

  #resourceGone(name: string): void {
    this.#book.depart(name);
    this.#options.metrics.forgetResource(name);
    this.#status.forget(name);
    this.#reconsider();
    this.#later('settle', this.#options.removalDelayMs, () => void this.#settle());
  }

  #credentialsChanged(secretName: string): void {
    const users = this.#book.all.filter(({ object }) => namesSecret(object.spec, secretName));
    for (const { object } of users) this.#book.read(object.name);
    if (users.length) this.#reconsider();
  }

  #reconsider(): void {
    this.#lookAtAll((name) => this.#queue.add(name, 'urgent'));
  }

  // Level-triggered: everything is looked at again, which costs nothing where nothing has changed.
  #lookAtAll(enqueue: (namespace: string) => void): void {
    if (!this.#view.isComplete) return;
    this.#options.broker.setWants(this.#book.wants);
    if (this.#options.isLeader()) {
      for (const name of this.#options.caches.namespaces.store.keys()) enqueue(name);
    }
    this.#scheduleAllStatus();
    const { trustedInMs } = this.#book;
    if (trustedInMs !== null) this.#later('trust', trustedInMs + TRUST_MARGIN_MS, () => this.#trusted());
  }

  #trusted(): void {
    this.#book.changed();
    this.#reconsider();
  }

  async #settle(): Promise<void> {
    try {
      const deleted = await this.#book.settle();
      this.#enqueueSelected(deleted, 'urgent', (name) => this.#removals.waited(name));
      if (deleted.length > 0) this.#reconsider(); // what they held, they held everywhere
    } catch (error) {
      this.#options.log.warn({ err: error }, 'the CustomResourceDefinition could not be read: removals wait');
    }
    if (this.#book.hasUndecidedDepartures) this.#later('settle', SETTLE_AGAIN_MS, () => void this.#settle());
  }

  #enqueueSelected(views: readonly ResourceView[], lane: Lane, before: (name: string) => void = () => {}): void {
    for (const namespace of this.#options.caches.namespaces.store.values()) {
      if (!views.some((view) => whyNotSelected(view.namespaces, namespace) === null)) continue;
      before(namespace.name);
      this.#queue.add(namespace.name, lane);
    }
  }

  #scheduleAllStatus(): void {
    for (const { object } of this.#book.all) this.#status.schedule(object.name);
  }

  #later(name: string, delayMs: number, fn: () => void): void {
    this.#timers.get(name)?.();
    this.#timers.set(name, this.#options.clock.after(delayMs, fn));
  }

  #factsOf(name: string): ResourceFacts | null {
    const resource = this.#book.get(name);
    if (!resource || !this.#isWorthTelling(resource)) return null;
    return {
      generation: resource.object.generation,
      isSuspended: resource.isSuspended,
      specProblem: resource.specProblem,
      missingPermissions: this.#view.missingPermissions,
      isGuarded: this.#options.isGuarded(),
      registries: this.#tokens.factsOf(resource),
      namespaces: this.#namespaceFactsOf(resource.view),
    };
  }

  // Without the stored tokens every one would be unknown, and be told so.
  #mayLead(): boolean {
    return this.#leads && this.#options.isLeader();
  }

  // After a start that finds everything in order nothing is written: the first pass and the checks are waited for.
  #isWorthTelling(resource: ResolvedResource): boolean {
    const { view } = resource;
    if (!this.#mayLead() || !this.#view.isComplete) return false;
    if (this.#worker.hasWritten || view.held !== null || !this.#view.mayWriteSecrets) return true;
    if (this.#tokens.isUnconfirmed(resource)) return false;
    const selected = [...this.#options.caches.namespaces.store.values()].filter(
      (namespace) => whyNotSelected(view.namespaces, namespace) === null,
    );
    return selected.every(({ name }) => this.#worker.stateOf(name) !== undefined);
  }

  #namespaceFactsOf(view: ResourceView): NamespaceFacts {
    return namespaceFacts(view, this.#options.caches.namespaces.store.values(), {
      stateOf: (namespace) => this.#worker.stateOf(namespace),
      serverNow: this.#options.serverNow(),
    });
  }
}

function namesSecret(spec: unknown, secretName: string): boolean {
  const { credentials } = (spec ?? {}) as { credentials?: { accessKeySecretRef?: { name?: unknown } } };
  return credentials?.accessKeySecretRef?.name === secretName;
}
