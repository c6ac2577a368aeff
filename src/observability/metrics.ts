import { Counter, Gauge, Registry } from 'prom-client';

const PREFIX = 'ecr_pull_secrets_';

export interface NamespaceCounts {
  readonly matched: number;
  readonly ready: number;
  readonly blocked: number;
  readonly failed: number;
}

/** All metrics; no other part knows their names. Labels hold names of hosts and objects, never of identities. */
export class Metrics {
  readonly registry = new Registry();
  readonly #beforeScrape: (() => void)[] = [];

  readonly #tokenExpiry = this.#gauge('token_expiry_timestamp_seconds', 'End of life of the published token.', [
    'region',
    'host',
  ]);
  readonly #tokenRefresh = this.#gauge('token_refresh_timestamp_seconds', 'When the published token was issued.', [
    'region',
    'host',
  ]);
  readonly #refreshFailures = this.#counter(
    'refresh_failures_total',
    'Refreshes that failed, and tokens that a registry refused.',
    ['reason'],
  );
  readonly #awsRequests = this.#counter('aws_requests_total', 'Requests to AWS by their outcome.', [
    'service',
    'operation',
    'code',
  ]);
  readonly #kubeRequests = this.#counter('kube_requests_total', 'Requests to the API server by their outcome.', [
    'verb',
    'code',
  ]);
  readonly #queueDepth = this.#gauge('queue_depth', 'Namespaces that wait for a worker.', ['lane']);
  readonly #queueOldest = this.#gauge('queue_oldest_seconds', 'How long the first of them has waited.', ['lane']);
  readonly #namespaces = this.#gauge('namespaces', 'Namespaces of a resource by state.', ['resource', 'state']);
  readonly #staleness = this.#gauge(
    'reflector_staleness_seconds',
    'Time since the last sign that the view of this kind is current.',
    ['kind'],
  );
  readonly #leader = this.#gauge('leader', '1 while this process holds the lease.', []);
  readonly #policyPresent = this.#gauge('policy_present', '1 if the admission policy binds the operator.', []);
  readonly #buildInfo = this.#gauge('build_info', 'Always 1; the labels tell the version.', ['version', 'node']);

  constructor() {
    registerProcessMetrics(this.registry);
  }

  /** null: there is no token. */
  tokenExpiry(region: string, host: string, epochSeconds: number | null): void {
    if (epochSeconds === null) this.#tokenExpiry.remove({ region, host });
    else this.#tokenExpiry.set({ region, host }, epochSeconds);
  }

  tokenRefreshed(region: string, host: string, epochSeconds: number): void {
    this.#tokenRefresh.set({ region, host }, epochSeconds);
  }

  forgetHost(region: string, host: string): void {
    this.#tokenExpiry.remove({ region, host });
    this.#tokenRefresh.remove({ region, host });
  }

  refreshFailed(reason: string): void {
    this.#refreshFailures.inc({ reason });
  }

  awsRequest(service: string, operation: string, code: string): void {
    this.#awsRequests.inc({ service, operation, code });
  }

  kubeRequest(verb: string, code: string): void {
    this.#kubeRequests.inc({ verb, code });
  }

  queue(lane: string, depth: number, oldestSeconds: number): void {
    this.#queueDepth.set({ lane }, depth);
    this.#queueOldest.set({ lane }, oldestSeconds);
  }

  namespaces(resource: string, counts: NamespaceCounts): void {
    for (const state of STATES) this.#namespaces.set({ resource, state }, counts[state]);
  }

  forgetResource(resource: string): void {
    for (const state of STATES) this.#namespaces.remove({ resource, state });
  }

  staleness(kind: string, seconds: number): void {
    this.#staleness.set({ kind }, seconds);
  }

  leader(isLeader: boolean): void {
    this.#leader.set(isLeader ? 1 : 0);
  }

  policyPresent(isPresent: boolean): void {
    this.#policyPresent.set(isPresent ? 1 : 0);
  }

  buildInfo(version: string): void {
    this.#buildInfo.set({ version, node: process.versions.node }, 1);
  }

  /** Called before each scrape: for what is cheaper read when asked for than kept up to date. */
  beforeScrape(fn: () => void): void {
    this.#beforeScrape.push(fn);
  }

  /** The text of `/metrics`. */
  async scrape(): Promise<string> {
    for (const fn of this.#beforeScrape) fn();
    return await this.registry.metrics();
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Gauge<Label> {
    return new Gauge({ name: PREFIX + name, help, labelNames, registers: [this.registry] });
  }

  #counter<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> {
    return new Counter({ name: PREFIX + name, help, labelNames, registers: [this.registry] });
  }
}

const STATES = ['matched', 'ready', 'blocked', 'failed'] as const;

// The customary names; prom-client's own set costs an observer of every garbage collection.
function registerProcessMetrics(registry: Registry): void {
  const memory = new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory in bytes.',
    registers: [],
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  const cpu = new Counter({
    name: 'process_cpu_seconds_total',
    help: 'CPU time spent in seconds.',
    registers: [],
    collect() {
      const { user, system } = process.cpuUsage(); // microseconds
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  const start = new Gauge({
    name: 'process_start_time_seconds',
    help: 'Start of the process, seconds since the epoch.',
    registers: [],
  });
  start.set(Math.round(performance.timeOrigin / 1000));
  for (const metric of [memory, cpu, start]) registry.registerMetric(metric);
}
