import { sleep, type Clock, type Random } from '../clock.ts';
import { ConflictError, StoppedError, ThrottledError } from '../errors.ts';
import { ApiStatusError } from './apiStatusError.ts';
import type { KubeClient } from './client.ts';
import type { KubeLog } from './kubeLog.ts';
import { newLease, withHolder, type Lease } from './lease.ts';

export interface LeaderElectorOptions {
  client: Pick<KubeClient, 'request'>; // with connections of its own: a busy client must not cost the lease
  namespace: string;
  name: string;
  identity: string; // of this process, not of its pod
  clock: Clock;
  random: Random;
  log: KubeLog;
  leaseMs?: number;
  renewDeadlineMs?: number;
  retryMs?: number;
  onChange: (leading: boolean) => void;
  /** The Lease is older than it was: etcd was restored from a copy, and everything that was seen may be no more. */
  onRewind?: () => void;
}

interface Moment {
  wall: number; // ms
  monotonic: number; // ms
}

const JITTER = 0.5; // of retryMs, off it, while somebody else leads: what is given back is taken within 3 s
const LONGEST_LEASE = 4; // times our own: what a Lease asks for beyond that is not honoured
const RELEASE_DEADLINE_MS = 3000;

/**
 * client-go's leader election on a Lease. Others' clocks are never trusted: a Lease is free when it has not changed for its
 * duration as seen by our own clock. Leadership is counted from the moment at which the last successful renewal was sent,
 * and ends by itself after `renewDeadlineMs`, which is shorter than the lease: so it has ended here before anybody else can
 * have begun. A request that names its `term` is cut off where it is still on its way by then, and nothing of it leaves this
 * machine any more; what a server or a proxy has got may still be done: writes must be conditional or idempotent.
 */
export class LeaderElector {
  readonly #o: Required<LeaderElectorOptions>;
  readonly #path: string;
  #lease: Lease | null = null; // as last seen
  #changedAt = 0; // when the lease's spec was last seen to change, monotonic ms
  #renewal: Moment | null = null;
  #leading = false;
  #term = new AbortController();
  #stopping = false;
  #cancelDeadline: () => void = () => undefined;
  readonly #ending = new AbortController();
  #running: Promise<void> | null = null;

  constructor(o: LeaderElectorOptions) {
    this.#o = { leaseMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2000, onRewind: () => undefined, ...o };
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${o.namespace}/leases`;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Looks at both clocks at each call, so it is right in the first tick after the process was stopped or suspended. */
  isLeader(): boolean {
    return this.#leading && !this.#stopping && !this.#hasLapsed();
  }

  /** Ends with our leadership. Throws StoppedError where it has, or has not begun. */
  term(): AbortSignal {
    if (!this.isLeader()) throw notLeading();
    return this.#term.signal;
  }

  /** Who held the lease when it was last read. */
  holder(): string | null {
    return this.#lease?.spec.holderIdentity || null;
  }

  /** Stops competing and gives the lease back, so that the next one need not wait: call it when the work has ended. */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#ending.abort();
    await this.#running;
    this.#setLeading(false);
    await this.#release();
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const askedForMs = await this.#round();
      this.#endIfLapsed();
      await sleep(this.#o.clock, Math.max(askedForMs, this.#pauseMs()), this.#ending.signal);
    }
  }

  /** Returns how long the server asks to be left alone, ms. */
  async #round(): Promise<number> {
    try {
      await this.#acquireOrRenew();
      return 0;
    } catch (err) {
      const { name, identity, log } = this.#o;
      log[this.#leading ? 'warn' : 'debug']({ lease: name, identity, err }, 'the lease could not be renewed');
      return err instanceof ThrottledError ? err.retryAfterMs : 0;
    }
  }

  async #acquireOrRenew(): Promise<void> {
    // A leader writes without reading first: the resourceVersion says whether somebody else has written.
    if (this.#leading && this.#lease !== null && (await this.#renewed(this.#lease))) return;
    const lease = await this.#read();
    if (lease === null) return this.#create();
    this.#observe(lease);
    if (this.#isHeldByOther(lease)) return this.#setLeading(false);
    await this.#renewed(lease);
  }

  async #renewed(lease: Lease): Promise<boolean> {
    const { identity, leaseMs, clock } = this.#o;
    const body = withHolder(lease, { identity, now: clock.now(), leaseSeconds: leaseMs / 1000 });
    try {
      await this.#write('PUT', body);
      return true;
    } catch (error) {
      if (error instanceof ConflictError || isNotFound(error)) return false;
      throw error;
    }
  }

  async #create(): Promise<void> {
    const { name, namespace, identity, leaseMs, clock } = this.#o;
    const lease = newLease({ name, namespace });
    await this.#write('POST', withHolder(lease, { identity, now: clock.now(), leaseSeconds: leaseMs / 1000 }));
  }

  async #write(method: 'PUT' | 'POST', body: Lease): Promise<void> {
    const { client, clock, name, renewDeadlineMs } = this.#o;
    let sent: Moment | null = null;
    const lease = await client.request<Lease>({
      method,
      path: method === 'POST' ? this.#path : `${this.#path}/${name}`,
      body,
      deadlineMs: renewDeadlineMs / 2,
      // The first time, where it is sent twice: it may have been that one which arrived.
      beforeSend: () => {
        sent ??= { wall: clock.now(), monotonic: clock.monotonic() };
        return undefined;
      },
    });
    this.#observe(lease);
    if (sent !== null) this.#begin(sent);
  }

  async #read(): Promise<Lease | null> {
    const { client, name, renewDeadlineMs } = this.#o;
    try {
      return await client.request<Lease>({
        method: 'GET',
        path: `${this.#path}/${name}`,
        deadlineMs: renewDeadlineMs / 2,
      });
    } catch (error) {
      if (isNotFound(error)) return null;
      throw error;
    }
  }

  #observe(lease: Lease): void {
    const isChanged = JSON.stringify(this.#lease?.spec) !== JSON.stringify(lease.spec);
    if (isChanged) this.#changedAt = this.#o.clock.monotonic();
    const isRewound = this.#lease !== null && isOlder(lease, this.#lease);
    this.#lease = lease;
    if (!isRewound) return;
    const { name, log, onRewind } = this.#o;
    log.warn({ lease: name }, 'the lease is older than it was: etcd was restored');
    onRewind();
  }

  #isHeldByOther(lease: Lease): boolean {
    const { holderIdentity } = lease.spec;
    return Boolean(holderIdentity) && holderIdentity !== this.#o.identity && this.#freeInMs(lease) > 0;
  }

  #freeInMs({ spec }: Lease): number {
    const { leaseMs, clock } = this.#o;
    const asked = spec.leaseDurationSeconds === undefined ? leaseMs : spec.leaseDurationSeconds * 1000;
    return this.#changedAt + Math.min(asked, leaseMs * LONGEST_LEASE) - clock.monotonic();
  }

  #pauseMs(): number {
    const { retryMs, random } = this.#o;
    if (this.#leading) return retryMs;
    const jittered = retryMs * (1 - JITTER * random());
    if (this.#lease === null || !this.#isHeldByOther(this.#lease)) return jittered;
    return Math.min(jittered, this.#freeInMs(this.#lease) + (retryMs / 4) * random());
  }

  #begin(sent: Moment): void {
    this.#endIfLapsed(); // a term that has lapsed meanwhile is told as ended before the next one begins
    this.#renewal = sent;
    if (this.#stopping || this.#hasLapsed()) return;
    this.#cancelDeadline();
    this.#cancelDeadline = this.#o.clock.after(this.#o.renewDeadlineMs - this.#elapsed(), () => this.#endIfLapsed());
    this.#setLeading(true);
  }

  #elapsed(): number {
    const { clock } = this.#o;
    if (this.#renewal === null) return Infinity;
    return Math.max(clock.now() - this.#renewal.wall, clock.monotonic() - this.#renewal.monotonic);
  }

  #hasLapsed(): boolean {
    return this.#elapsed() >= this.#o.renewDeadlineMs;
  }

  #endIfLapsed(): void {
    if (this.#hasLapsed()) this.#setLeading(false);
  }

  #setLeading(leading: boolean): void {
    if (this.#leading === leading) return;
    this.#leading = leading;
    const { name, identity, log, onChange } = this.#o;
    log.info({ lease: name, identity, holder: this.holder() }, leading ? 'leading' : 'no longer leading');
    if (leading) {
      this.#term = new AbortController();
    } else {
      this.#cancelDeadline();
      this.#term.abort(notLeading());
    }
    try {
      onChange(leading);
    } catch (err) {
      log.error({ err }, 'the listener of the leader election failed');
    }
  }

  async #release(): Promise<void> {
    const { client, clock, identity, name, log } = this.#o;
    const lease = this.#lease;
    if (lease === null || lease.spec.holderIdentity !== identity) return;
    try {
      const body = withHolder(lease, { identity: '', now: clock.now(), leaseSeconds: 1 });
      await client.request({ method: 'PUT', path: `${this.#path}/${name}`, body, deadlineMs: RELEASE_DEADLINE_MS });
    } catch (err) {
      log.warn({ lease: name, err }, 'the lease could not be given back: the next leader waits for its end');
    }
  }
}

// A cluster's resourceVersions are numbers that grow (KEP-5504). One object is never read from a cache.
function isOlder(
  { metadata: { resourceVersion: now = '' } }: Lease,
  { metadata: { resourceVersion: before = '' } }: Lease,
) {
  const isNumber = /^[0-9]+$/;
  return isNumber.test(now) && isNumber.test(before) && BigInt(now) < BigInt(before);
}

function isNotFound(error: unknown): boolean {
  return error instanceof ApiStatusError && error.status === 404;
}

function notLeading(): StoppedError {
  return new StoppedError('NotLeading', 'the lease is not ours');
}
