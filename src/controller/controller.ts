import type { HostToken, TokenBroker } from '../aws/tokenBroker.ts';
import type { Clock } from '../clock.ts';
import type { ObservedNamespace } from '../core/diffNamespace.ts';
import { whyNotSelected } from '../core/namespaceSelection.ts';
import { entryHash, type ResourceView, type TokenState } from '../core/planNamespace.ts';
import type { RegistryFacts, ResourceFacts } from '../core/status.ts';
import { outcomeOf, StoppedError } from '../errors.ts';
import { ApiStatusError } from '../kube/apiStatusError.ts';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/eventRecorder.ts';
import { WorkQueue, type Lane } from '../kube/workQueue.ts';
import type { Logger } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { WriteContext } from './applyWrites.ts';
import { reflectorsOf, type Caches } from './caches.ts';
import { listen } from './enqueue.ts';
import { namespaceFacts, type NamespaceState } from './namespaceOutcomes.ts';
import { Permissions } from './permissions.ts';
import { isPolicyDenial } from './policyProbe.ts';
import { reconcileNamespace, type ReconcileContext, type ReconcileResult } from './reconcileNamespace.ts';
import { refreshPace, type FormerToken } from './refreshPace.ts';
import { RemovalGate } from './removalGate.ts';
import { RepairBackoff } from './repairBackoff.ts';
import { announceRepair } from './repairEvents.ts';
import { ResourceBook } from './resourceBook.ts';
import type { ResolvedResource } from './resolveResource.ts';
import { StatusWriter } from './statusWriter.ts';

export interface ControllerOptions {
  readonly client: KubeClient;
  readonly caches: Caches;
  readonly broker: TokenBroker;
  readonly clock: Clock;
  readonly serverNow: () => number; // ms, on the API server's clock
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly events: EventRecorder;
  readonly isLeader: () => boolean;
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
const OWN_WRITE_SEEN_MS = 5_000;
const CONFLICTS_BEFORE_BACKOFF = 3;
const SETTLE_AGAIN_MS = 5_000;

/**
 * Reflectors change stores, stores name namespaces, workers take a name and make the namespace what it should be. Runs
 * only on the leader; on a standby the stores are kept warm and nothing is written.
 */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #book: ResourceBook;
  readonly #queue: WorkQueue;
  readonly #removals: RemovalGate;
  readonly #repairs: RepairBackoff;
  readonly #permissions: Permissions;
  readonly #status: StatusWriter;
  readonly #states = new Map<string, NamespaceState>();
  readonly #conflicts = new Map<string, number>();
  readonly #publishedTokens = new Map<string, FormerToken>(); // by the broker's key
  readonly #replacedTokens = new Map<string, FormerToken>(); // by the broker's key, while namespaces still hold them
  readonly #hashes = new Map<string, string>();
  readonly #stopping = new AbortController();
  readonly #timers = new Map<string, () => void>();
  #workers: Promise<void>[] = [];
  #stopListening: () => void = () => {};
  #hasWritten = false;

  constructor(options: ControllerOptions) {
    const { clock, client, caches, serverNow } = options;
    this.#options = options;
    this.#book = new ResourceBook({
      ...{ caches, client, clock, serverNow, removalDelayMs: options.removalDelayMs },
      context: {
        env: options.env,
        namespace: options.namespace,
        credentialSecretNames: options.credentialSecretNames,
        credentialSecret: (name) => caches.credentials.get(name)?.store.get(name),
      },
    });
    this.#queue = new WorkQueue({ clock, refreshPerSecond: () => this.#refreshPace() });
    this.#removals = new RemovalGate({
      clock,
      delayMs: options.removalDelayMs,
      isViewTrusted: () => this.#isViewTrusted(),
      isCrdSteady: () => this.#book.isSteady(),
    });
    this.#repairs = new RepairBackoff(clock);
    this.#permissions = new Permissions({ client, clock, onChange: () => this.#permissionsChanged() });
    this.#status = new StatusWriter({
      ...{ client, clock, serverNow, log: options.log, events: options.events, redact: options.redact },
      resources: caches.resources.store,
      factsOf: (name) => this.#factsOf(name),
      beforeSend: () => this.#assertLeading(),
    });
  }

  start(): void {
    const { caches } = this.#options;
    this.#stopListening = listen(caches, {
      queue: this.#queue,
      namespaceGone: (name) => this.#namespaceGone(name),
      resourceChanged: (name) => this.#resourceChanged(name),
      resourceGone: (name) => this.#resourceGone(name),
      credentialsChanged: (secretName) => this.#credentialsChanged(secretName),
      crdChanged: () => caches.resources.reflector.relist(),
      statusChanged: (name) => this.#status.schedule(name),
    });
    for (const reflector of reflectorsOf(caches)) reflector.onStateChange(() => this.#reflectorChanged());
    caches.resources.reflector.onListed(() => this.#resourcesListed());
    for (const reflector of reflectorsOf(caches)) reflector.start();
    this.#workers = Array.from({ length: WORKERS }, () => this.#work());
  }

  /** Ends all work; resolves when the last write has been answered. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#stopListening();
    for (const cancel of this.#timers.values()) cancel();
    this.#permissions.stop();
    this.#status.stop();
    await Promise.all(this.#workers);
    await Promise.all(reflectorsOf(this.#options.caches).map((reflector) => reflector.stop()));
  }

  /** The lease is ours: whatever is not as it should be is put right; what is, costs nothing. */
  lead(): void {
    this.#hasWritten = false;
    this.#broughtUpToDate();
  }

  /** The lease is somebody else's. */
  follow(): void {
    this.#queue.clear();
  }

  /** null, or what is still missing before the operator can be relied upon. */
  whyNotReady(): string | null {
    const { namespaces, resources } = this.#options.caches;
    const waiting = [namespaces, resources].find(({ reflector }) => !reflector.state.everSynced);
    if (!waiting) return null;
    const { kind, state } = waiting.reflector;
    return `${kind} not listed yet${state.error ? `: ${state.error.message}` : ''}`;
  }

  /** The broker has something new for these hosts. */
  tokensChanged({ key, hosts, reason }: { key: string; hosts: readonly string[]; reason: string }): void {
    if (reason !== 'failure') this.#enqueueUsersOf(key, hosts);
    for (const resource of this.#book.all) {
      if ([...resource.keys.values()].includes(key)) this.#status.schedule(resource.object.name);
    }
  }

  /** The policy came or went. */
  guardChanged(): void {
    for (const { object } of this.#book.all) this.#status.schedule(object.name);
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

  // --- events -----------------------------------------------------------------------------------------------------

  #namespaceGone(name: string): void {
    this.#states.delete(name);
    this.#conflicts.delete(name);
    this.#removals.settled(name);
    this.#queue.forget(name);
    this.#scheduleAllStatus();
  }

  #resourceChanged(name: string): void {
    this.#book.read(name);
    this.#resourcesChanged();
    this.#status.schedule(name);
  }

  #resourceGone(name: string): void {
    this.#book.depart(name);
    this.#options.metrics.forgetResource(name);
    this.#resourcesChanged();
    this.#later('settle', this.#options.removalDelayMs, () => void this.#settle());
  }

  #credentialsChanged(secretName: string): void {
    for (const { object } of this.#book.all) {
      if (namesSecret(object.spec, secretName)) this.#resourceChanged(object.name);
    }
  }

  #resourcesListed(): void {
    this.#book.listed();
    this.#broughtUpToDate();
  }

  #resourcesChanged(): void {
    if (!this.#isViewComplete()) return;
    this.#options.broker.setWants(this.#book.wants);
    this.#enqueueAll('urgent');
  }

  #reflectorChanged(): void {
    this.#broughtUpToDate();
  }

  #permissionsChanged(): void {
    this.#enqueueAll('urgent');
    this.#scheduleAllStatus();
  }

  // Level-triggered: everything is looked at again.
  #broughtUpToDate(): void {
    if (!this.#isViewComplete()) return;
    this.#options.broker.setWants(this.#book.wants);
    this.#enqueueAll('urgent');
    this.#scheduleAllStatus();
    const trustedInMs = this.#book.trustedInMs;
    if (trustedInMs !== null) this.#later('trust', trustedInMs + 1_000, () => this.#trusted());
  }

  #trusted(): void {
    this.#book.changed();
    this.#broughtUpToDate();
  }

  async #settle(): Promise<void> {
    try {
      const deleted = await this.#book.settle();
      for (const view of deleted) this.#releaseNamespacesOf(view);
    } catch (error) {
      this.#options.log.warn({ err: error }, 'the CustomResourceDefinition could not be read: removals wait');
    }
    if (this.#book.hasUndecidedDepartures) this.#later('settle', SETTLE_AGAIN_MS, () => void this.#settle());
  }

  // The delay of the removals is over: the deletion itself was waited for.
  #releaseNamespacesOf(view: ResourceView): void {
    for (const namespace of this.#options.caches.namespaces.store.values()) {
      if (whyNotSelected(view.namespaces, namespace) !== null) continue;
      this.#removals.waited(namespace.name);
      this.#queue.add(namespace.name, 'urgent');
    }
  }

  #enqueueUsersOf(key: string, hosts: readonly string[]): void {
    const users = this.#book.all.filter(
      (resource) => resource.view.held === null && hosts.some((host) => resource.keys.get(host) === key),
    );
    const lane = this.#noteFormerToken(key, users, hosts) ? 'refresh' : 'urgent';
    for (const namespace of this.#options.caches.namespaces.store.values()) {
      const isUser = users.some(({ view }) => whyNotSelected(view.namespaces, namespace) === null);
      if (isUser) this.#queue.add(namespace.name, lane);
    }
  }

  // Remembers what the namespaces hold until they are refreshed; whether there was anything.
  #noteFormerToken(key: string, users: readonly ResolvedResource[], hosts: readonly string[]): boolean {
    const before = this.#publishedTokens.get(key);
    const host = hosts[0];
    const token = host === undefined || users.length === 0 ? null : this.#options.broker.hostStatus(key, host).token;
    if (token?.state === 'usable') {
      this.#publishedTokens.set(key, { issuedAt: token.issuedAt.getTime(), endsAt: token.expiresAt.getTime() });
    }
    if (before) this.#replacedTokens.set(key, before);
    return before !== undefined;
  }

  #refreshPace(): number {
    const waiting = this.#queue.depth('refresh');
    if (waiting === 0) this.#replacedTokens.clear();
    return refreshPace(this.#options.refreshRate, {
      waiting,
      former: this.#replacedTokens.values(),
      now: this.#options.serverNow(),
    });
  }

  #enqueueAll(lane: Lane): void {
    if (!this.#options.isLeader()) return;
    for (const name of this.#options.caches.namespaces.store.keys()) this.#queue.add(name, lane);
  }

  #scheduleAllStatus(): void {
    for (const { object } of this.#book.all) this.#status.schedule(object.name);
  }

  #later(name: string, delayMs: number, fn: () => void): void {
    this.#timers.get(name)?.();
    this.#timers.set(name, this.#options.clock.after(delayMs, fn));
  }

  // --- work -------------------------------------------------------------------------------------------------------

  async #work(): Promise<void> {
    const { signal } = this.#stopping;
    for (let item = await this.#queue.take(signal); item; item = await this.#queue.take(signal)) {
      try {
        if (this.#mayWork()) await this.#reconcile(item.key, item.lane);
      } catch (error) {
        this.#failed(item.key, item.lane, error);
      } finally {
        this.#queue.done(item.key);
      }
    }
  }

  async #reconcile(name: string, lane: Lane): Promise<void> {
    const result = await reconcileNamespace(name, this.#reconcileContext);
    if (result.written > 0) this.#hasWritten = true;
    const [worst] = await this.#judge(name, result);
    if (worst) this.#failed(name, lane, worst);
    else this.#succeeded(name, result);
    if (result.requeueMs !== null) this.#queue.addAfter(name, 'urgent', result.requeueMs);
    for (const resource of this.#resourcesOf(name)) this.#status.schedule(resource);
  }

  #succeeded(name: string, { state, written }: ReconcileResult): void {
    this.#queue.forget(name);
    this.#conflicts.delete(name);
    if (!state) this.#states.delete(name);
    else this.#states.set(name, state);
    if (written > 0) this.#options.log.debug({ kind: 'Namespace', name, writes: written }, 'namespace written');
  }

  // A 403 is looked into: a missing right is everybody's matter, a quota's or a webhook's refusal this namespace's.
  async #judge(namespace: string, { errors }: ReconcileResult): Promise<unknown[]> {
    const kept: unknown[] = [];
    for (const error of errors) {
      if (error instanceof ApiStatusError && error.status === 403 && !isPolicyDenial(error)) {
        const { verb, resource } = error;
        const name = error.name_;
        const group = '';
        await this.#permissions.confirmMissing({ verb, group, resource, namespace, ...(name && { name }) });
      }
      kept.push(error);
    }
    return kept.sort((a, b) => severity(b) - severity(a));
  }

  #failed(name: string, lane: Lane, error: unknown): void {
    const outcome = outcomeOf(error);
    switch (outcome.kind) {
      case 'Done':
        return;
      case 'Gone':
      case 'Stopped':
        this.#queue.forget(name);
        return;
      case 'Conflict': {
        const conflicts = (this.#conflicts.get(name) ?? 0) + 1;
        this.#conflicts.set(name, conflicts);
        if (conflicts <= CONFLICTS_BEFORE_BACKOFF) this.#queue.addAfter(name, 'urgent', 20 * conflicts);
        else this.#queue.retry(name, 'urgent');
        return;
      }
      case 'Throttled':
        this.#queue.addAfter(name, lane, outcome.retryAfterMs);
        return;
      case 'Transient':
      case 'Configuration':
      case 'Unexpected': {
        const retryMs = this.#queue.retry(name, lane);
        this.#setFailure(name, outcome, { error, retryMs });
      }
    }
  }

  #setFailure(
    name: string,
    { kind, code, message }: { kind: string; code: string; message: string },
    { error, retryMs }: { error: unknown; retryMs: number },
  ): void {
    const isForeign = code === 'ForeignSecret' || code === 'WrongSecretType';
    this.#states.set(name, isForeign ? { kind: 'Blocked', message } : { kind: 'Failed', code, message });
    const fields = { kind: 'Namespace', name, code, retryMs, ...(kind === 'Unexpected' && { err: error }) };
    this.#options.log.warn(fields, message);
  }

  get #reconcileContext(): ReconcileContext {
    return {
      secretName: this.#options.secretName,
      snapshot: (name) => this.#snapshot(name),
      resources: () => this.#book.resources,
      tokenOf: (resource, host) => this.#tokenOf(resource, host),
      hashOf: (auth) => this.#hashOf(auth),
      removals: this.#removals,
      repairs: this.#repairs,
      writeContext: (namespace) => this.#writeContext(namespace),
      repaired: (write, namespace, count) => announceRepair(write, { namespace, count, ...this.#options }),
    };
  }

  #snapshot(
    name: string,
  ): { namespace: ReturnType<Caches['namespaces']['store']['get']> & object; observed: ObservedNamespace } | null {
    const { caches, secretName } = this.#options;
    const namespace = caches.namespaces.store.get(name);
    if (!namespace) return null;
    const secretIn = (secret: string) => caches.secrets.get(secret)?.store.get(`${name}/${secret}`);
    const formerNames = [...caches.secrets.keys()].filter((secret) => secret !== secretName);
    return {
      namespace,
      observed: {
        secret: secretIn(secretName) ?? null,
        formerSecrets: formerNames.flatMap((secret) => secretIn(secret) ?? []),
        serviceAccounts: this.#mayEditServiceAccounts()
          ? (caches.serviceAccounts?.store.inNamespace(name) ?? null)
          : null,
      },
    };
  }

  #writeContext(namespace: string): WriteContext {
    const { client, caches, secretName } = this.#options;
    const storeOf = {
      Secret: caches.secrets.get(secretName)?.store,
      ServiceAccount: caches.serviceAccounts?.store,
    };
    return {
      ...{ client, namespace, secretName },
      beforeSend: () => this.#assertLeading(),
      seen: async (kind, name, resourceVersion) => {
        await storeOf[kind]?.waitFor(`${namespace}/${name}`, resourceVersion, OWN_WRITE_SEEN_MS);
      },
      recreated: (name) =>
        this.#options.events.record({
          regarding: { apiVersion: 'v1', kind: 'Secret', name, namespace },
          type: 'Warning',
          reason: 'ImmutableSecretRecreated',
          action: 'Repair',
          note: 'somebody had made the Secret immutable, so it could not be refreshed: it was deleted and made anew',
        }),
    };
  }

  #tokenOf(resource: string, host: string): TokenState {
    const key = this.#book.get(resource)?.keys.get(host);
    if (key === undefined) return { state: 'unknown' };
    const { token } = this.#options.broker.hostStatus(key, host);
    return token.state === 'usable' ? { state: 'usable', auth: token.auth } : { state: token.state };
  }

  #hashOf(auth: string): string {
    const known = this.#hashes.get(auth);
    if (known !== undefined) return known;
    if (this.#hashes.size > 1_000) this.#hashes.clear();
    const hash = entryHash(auth);
    this.#hashes.set(auth, hash);
    return hash;
  }

  // --- conditions -------------------------------------------------------------------------------------------------

  #assertLeading(): void {
    if (!this.#options.isLeader()) throw new StoppedError('NotLeading', 'the lease is not ours');
  }

  #mayWork(): boolean {
    return this.#options.isLeader() && this.#isViewComplete() && !this.#permissions.lacks('patch', 'secrets');
  }

  // Everything has been listed once; what could not be for want of a right is switched off, not waited for.
  #isViewComplete(): boolean {
    const { namespaces, resources, secrets, serviceAccounts } = this.#options.caches;
    const needed = [namespaces, resources, ...secrets.values()];
    const isListed = needed.every(({ reflector }) => reflector.state.everSynced);
    const { everSynced = true, listStatus = null } = serviceAccounts?.reflector.state ?? {};
    return isListed && (everSynced || listStatus === 403);
  }

  // Stricter: everything is known to be current now, else nothing may be removed.
  #isViewTrusted(): boolean {
    const { namespaces, resources, secrets, serviceAccounts, crds } = this.#options.caches;
    const needed = [namespaces, resources, crds, ...secrets.values(), ...(serviceAccounts ? [serviceAccounts] : [])];
    return needed.every(({ reflector }) => reflector.state.synced || reflector.state.listStatus === 403);
  }

  #mayEditServiceAccounts(): boolean {
    const { serviceAccounts } = this.#options.caches;
    return serviceAccounts?.reflector.state.everSynced === true && !this.#permissions.lacks('patch', 'serviceaccounts');
  }

  #missingPermissions(): string[] {
    const listed = reflectorsOf(this.#options.caches).filter(({ state }) => state.listStatus === 403);
    const lists = listed.map(({ kind }) => `list ${kind.toLowerCase()}s`);
    return [...new Set([...this.#permissions.missing, ...lists])].sort();
  }

  // --- status -----------------------------------------------------------------------------------------------------

  #factsOf(name: string): ResourceFacts | null {
    const resource = this.#book.get(name);
    if (!resource || !this.#isWorthTelling(resource)) return null;
    return {
      generation: resource.object.generation,
      isSuspended: resource.isSuspended,
      specProblem: resource.specProblem,
      missingPermissions: this.#missingPermissions(),
      isGuarded: this.#options.isGuarded(),
      registries: resource.registries.map(({ host, region }) => this.#registryFacts(resource, { host, region })),
      namespaces: this.#namespaceFactsOf(resource.view),
    };
  }

  // After a start that finds everything in order nothing is written: the first pass is waited for.
  #isWorthTelling({ view }: ResolvedResource): boolean {
    if (!this.#options.isLeader() || !this.#isViewComplete()) return false;
    if (this.#hasWritten || view.held !== null) return true;
    const { namespaces } = this.#options.caches;
    for (const namespace of namespaces.store.values()) {
      const isKnown = this.#states.has(namespace.name) || whyNotSelected(view.namespaces, namespace) !== null;
      if (!isKnown) return false;
    }
    return true;
  }

  #registryFacts(resource: ResolvedResource, { host, region }: { host: string; region: string }): RegistryFacts {
    const key = resource.keys.get(host);
    const none = { host, region, expiresAt: null, lastRefreshTime: null, nextRefreshTime: null };
    if (key === undefined) return { ...none, state: 'unknown', failure: resource.identityProblem, note: null };
    const { token, lastRefreshTime, nextRefreshTime, failure, note } = this.#options.broker.hostStatus(key, host);
    return {
      ...{ host, region, state: token.state, failure, lastRefreshTime, nextRefreshTime },
      expiresAt: expiryOf(token),
      note: this.#providerOf(host, resource) ?? note,
    };
  }

  #providerOf(host: string, resource: ResolvedResource): string | null {
    const provider = this.#book.all.find(
      (other) => other.view.held === null && this.#tokenOf(other.object.name, host).state === 'usable',
    );
    if (!provider || provider.object.name >= resource.object.name) return null;
    return `where both select a namespace, ${provider.object.name} provides this host: its name comes first`;
  }

  #namespaceFactsOf(view: ResourceView): ResourceFacts['namespaces'] {
    return namespaceFacts(view, this.#options.caches.namespaces.store.values(), {
      stateOf: (namespace) => this.#states.get(namespace),
      serverNow: this.#options.serverNow(),
    });
  }

  #resourcesOf(namespace: string): string[] {
    const object = this.#options.caches.namespaces.store.get(namespace);
    if (!object) return [];
    return this.#book.all
      .filter(({ view }) => whyNotSelected(view.namespaces, object) === null)
      .map((resource) => resource.object.name);
  }
}

function expiryOf(token: HostToken): Date | null {
  return token.state === 'unknown' ? null : token.expiresAt;
}

function namesSecret(spec: unknown, secretName: string): boolean {
  const { credentials } = (spec ?? {}) as { credentials?: { accessKeySecretRef?: { name?: unknown } } };
  return credentials?.accessKeySecretRef?.name === secretName;
}

// Which of several errors decides how the namespace is tried again.
function severity(error: unknown): number {
  return ['Gone', 'Stopped', 'Conflict', 'Transient', 'Throttled', 'Configuration', 'Unexpected'].indexOf(
    outcomeOf(error).kind,
  );
}
