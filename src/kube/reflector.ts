import { sleep, type Clock, type Random } from '../clock.ts';
import { OperatorError, TransientError } from '../errors.ts';
import { ApiStatusError } from './apiStatusError.ts';
import { Backoff } from './backoff.ts';
import type { KubeClient } from './client.ts';
import type { KubeLog } from './kubeLog.ts';
import { objectKey, type KubeObject, type WatchEvent } from './kubeObject.ts';
import { checked, errorOfEvent, isExpired, isUselessVersion, retryAfterMs } from './reflectorErrors.ts';
import { readPages } from './pagedList.ts';
import type { Store, StoredObject } from './store.ts';

export interface ReflectorOptions<T> {
  client: Pick<KubeClient, 'request' | 'watch' | 'contact'>;
  path: string;
  query?: Record<string, string>; // selectors
  metadataOnly?: boolean;
  kind: string; // for logs and metrics
  /** What is kept of an object. */
  reduce: (object: KubeObject) => T;
  store: Store<T>;
  clock: Clock;
  random: Random;
  log: KubeLog;
  pageSize?: number;
  silenceMs?: number;
}

export interface ReflectorState {
  /** A list has been read since the start, and the last one was not refused with 403 or 404. */
  synced: boolean;
  everSynced: boolean;
  staleMs: number; // since something came that proved the store current; Infinity before the first list
  error: Error | null; // null while it goes well
  listStatus: number | null; // HTTP, of the last list; null where none was answered
}

const SHORT_WATCH_MS = 1000; // a watch that ends sooner, without an event, is an error: else it would spin
const SILENCE_MS = 150_000; // bookmarks come about once a minute
const SPREAD_MS = 1000; // over which the reflectors come back to a server that is back
const TELL_EXPIRED_AFTER = 3; // in a row
const RELIST_AFTER = 10; // failed watches in a row: perhaps it is the resourceVersion that the server cannot serve

/**
 * Keeps a store as the API server has it: a paged list, then watches from its resourceVersion on; a new list only where
 * the server no longer knows that version, or where a watch was silent for so long that it must be dead. A list never asks
 * for a resourceVersion, and a lower one than before is taken: after a restore of etcd that is the truth. The store is
 * changed by a complete list or an event only, never by a failure. It never stops for good.
 */
export class Reflector<T> {
  readonly kind: string;
  readonly #o: ReflectorOptions<T>;
  readonly #backoff: Backoff;
  readonly #listeners = new Set<() => void>();
  readonly #listListeners = new Set<() => void>();
  #version: string | null = null; // where the next watch begins; null: list first
  #isListing = false;
  #lists = 0; // that the store has taken over
  #listAgain = false;
  #failedWatches = 0;
  #contactAt = -Infinity; // monotonic ms
  #known: Omit<ReflectorState, 'staleMs'> = { synced: false, everSynced: false, error: null, listStatus: null };
  #stopping = false;
  #round = new AbortController();
  #running: Promise<void> | null = null;

  constructor(o: ReflectorOptions<T>) {
    this.kind = o.kind;
    this.#o = o;
    this.#backoff = new Backoff(o);
    o.store.onListenerError = (err) => o.log.error({ kind: o.kind, err }, 'a listener of the store failed');
  }

  get state(): ReflectorState {
    return { ...this.#known, staleMs: this.#o.clock.monotonic() - this.#contactAt };
  }

  /** Called after any part of the state but `staleMs` has changed; a failure that goes on is no change. */
  onStateChange(fn: () => void): void {
    this.#listeners.add(fn);
  }

  /** Called after the store has taken over a list that was begun after the last call of `relist`. */
  onListed(fn: () => void): void {
    this.#listListeners.add(fn);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#round.abort();
    await this.#running;
  }

  /** Lists anew, at once. */
  relist(): void {
    if (this.#isListing) {
      this.#listAgain = true;
      return;
    }
    this.#version = null;
    this.#round.abort();
  }

  /**
   * Reads one object past a watch that is behind; whether the store has taken it. It has not where the watch or a list has
   * shown something of the object meanwhile, as nobody can tell which is newer.
   */
  async lookUp(key: string, path: string): Promise<boolean> {
    const { client, metadataOnly, store } = this.#o;
    const [version, lists] = [store.versionOf(key), this.#lists];
    const object = await client.request<KubeObject>({ method: 'GET', path, metadataOnly }).catch((error: unknown) => {
      if (error instanceof ApiStatusError && error.status === 404) return null;
      throw error;
    });
    if (store.versionOf(key) !== version || this.#lists !== lists) return false;
    if (object === null) store.delete(key);
    else this.#put(key, object);
    return true;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      this.#round = new AbortController();
      const { signal } = this.#round;
      try {
        if (this.#version === null) await this.#list(signal);
        else await this.#watch(signal, this.#version);
      } catch (error) {
        if (!signal.aborted) await this.#wait(this.#waitAfter(error), retryAfterMs(error), signal);
      }
    }
  }

  /** Waits `ms`; where the server is back before, only as long as it asked for, and not in step with the others. */
  async #wait(ms: number, leastMs: number, signal: AbortSignal): Promise<void> {
    const { client, clock, random } = this.#o;
    if (ms === 0) return;
    const begun = clock.monotonic();
    const isBack = await client.contact.untilBack(ms, signal);
    if (!isBack) return;
    this.#backoff.reset();
    await sleep(clock, Math.max(begun + leastMs - clock.monotonic(), random() * SPREAD_MS), signal);
  }

  async #list(signal: AbortSignal): Promise<void> {
    this.#isListing = true;
    this.#listAgain = false;
    try {
      const objects = new Map<string, StoredObject<T>>();
      this.#version = await readPages({ ...this.#o, signal }, (item) => this.#readItem(item, objects));
      this.#failedWatches = 0;
      this.#contactAt = this.#o.clock.monotonic();
      if (this.#known.error !== null) this.#o.log.info({ kind: this.kind }, 'listed again');
      this.#lists += 1;
      this.#o.store.replace(objects);
      this.#setKnown({ synced: true, everSynced: true, error: null, listStatus: 200 });
      if (!this.#listAgain) this.#call(this.#listListeners);
    } catch (error) {
      if (!signal.aborted) this.#noteFailedList(error);
      throw error;
    } finally {
      this.#isListing = false;
      if (this.#listAgain) this.#version = null;
    }
  }

  #readItem(item: KubeObject, objects: Map<string, StoredObject<T>>): void {
    const key = objectKey(checked(item, this.kind).metadata);
    const value = this.#reduced(item, key);
    if (value !== undefined) objects.set(key, { value, resourceVersion: item.metadata.resourceVersion ?? '' });
  }

  /** An object that `reduce` cannot read stays as it was: a bug of ours is no deletion. */
  #reduced(object: KubeObject, key: string): T | undefined {
    try {
      return this.#o.reduce(object);
    } catch (err) {
      this.#o.log.error({ kind: this.kind, key, err }, 'an object could not be read');
      return this.#o.store.get(key);
    }
  }

  async #watch(signal: AbortSignal, from: string): Promise<void> {
    const { client, path, query, metadataOnly, silenceMs = SILENCE_MS, clock, random } = this.#o;
    const begun = clock.monotonic();
    let openedAt = Infinity;
    let events = 0;
    const watch = client.watch({
      path,
      query: {
        ...query,
        resourceVersion: from,
        allowWatchBookmarks: 'true',
        timeoutSeconds: String(300 + Math.floor(random() * 300)),
      },
      metadataOnly,
      signal,
      idleMs: silenceMs,
      onOpen: () => {
        openedAt = clock.monotonic();
        this.#setKnown({ ...this.#known, error: null });
      },
    });
    try {
      for await (const event of watch) {
        this.#apply(event);
        events += 1;
      }
    } finally {
      if (clock.monotonic() - openedAt >= SHORT_WATCH_MS) this.#noteThatItStood(silenceMs);
    }
    if (events === 0 && clock.monotonic() - begun < SHORT_WATCH_MS) {
      throw new TransientError('ShortWatch', `the watch of ${this.kind} ended as soon as it began`);
    }
  }

  /** A watch that stood for a while tells of no trouble, however it ended; but many silent ones are as good as one. */
  #noteThatItStood(silenceMs: number): void {
    this.#backoff.reset();
    this.#failedWatches = 0;
    if (this.state.staleMs >= silenceMs) this.#version = null;
  }

  #apply({ type, object }: WatchEvent): void {
    if (type === 'ERROR') throw errorOfEvent(object, this.#o.path);
    const { metadata } = type === 'BOOKMARK' ? object : checked(object, this.kind);
    const resourceVersion = metadata.resourceVersion;
    if (!resourceVersion) throw new TransientError('NotKubernetes', `an event of ${this.kind} has no resourceVersion`);
    if (type === 'DELETED') this.#o.store.delete(objectKey(metadata));
    if (type === 'ADDED' || type === 'MODIFIED') this.#put(objectKey(metadata), object);
    this.#version = resourceVersion;
    this.#contactAt = this.#o.clock.monotonic();
    this.#failedWatches = 0;
    this.#backoff.reset();
  }

  #put(key: string, object: KubeObject): void {
    const value = this.#reduced(object, key);
    const { resourceVersion = '' } = object.metadata;
    if (value !== undefined) this.#o.store.set(key, { value, resourceVersion });
  }

  #noteFailedList(error: unknown): void {
    const listStatus = error instanceof ApiStatusError ? error.status : null;
    const isRefused = listStatus === 403 || listStatus === 404;
    this.#setKnown({ ...this.#known, synced: this.#known.synced && !isRefused, listStatus });
  }

  #waitAfter(error: unknown): number {
    this.#failedWatches += 1;
    if (isUselessVersion(error) || this.#failedWatches % RELIST_AFTER === 0) this.#version = null;
    const isFirst = this.#backoff.fresh;
    const backoffMs = this.#backoff.next();
    const waitMs = this.#listAgain || (isFirst && isExpired(error)) ? 0 : Math.max(backoffMs, retryAfterMs(error));
    this.#o.log[this.#levelOf(error)](
      { kind: this.kind, err: error, waitMs: Math.round(waitMs) },
      'list or watch failed',
    );
    this.#setKnown({ ...this.#known, error: error instanceof Error ? error : new Error(String(error)) });
    return waitMs;
  }

  // A failure is told once, not at each try; one that a new list mends, only where it did not.
  #levelOf(error: unknown): 'error' | 'warn' | 'debug' {
    if (!(error instanceof OperatorError)) return 'error';
    if (isExpired(error)) return this.#failedWatches === TELL_EXPIRED_AFTER ? 'warn' : 'debug';
    const isKnown = this.#known.error instanceof OperatorError && this.#known.error.code === error.code;
    return isKnown ? 'debug' : 'warn';
  }

  #setKnown(known: Omit<ReflectorState, 'staleMs'>): void {
    const before = this.#known;
    this.#known = known;
    const isSame =
      before.synced === known.synced &&
      before.everSynced === known.everSynced &&
      before.listStatus === known.listStatus &&
      (before.error === null) === (known.error === null);
    if (!isSame) this.#call(this.#listeners);
  }

  #call(listeners: ReadonlySet<() => void>): void {
    for (const listener of listeners) {
      try {
        listener();
      } catch (err) {
        this.#o.log.error({ kind: this.kind, err }, 'a listener of the reflector failed');
      }
    }
  }
}
