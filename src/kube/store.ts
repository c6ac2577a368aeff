import type { Clock } from '../clock.ts';

export interface StoreChange<T> {
  type: 'added' | 'modified' | 'deleted';
  key: string;
  before?: T;
  after?: T;
}

export interface StoredObject<T> {
  value: T;
  resourceVersion: string;
}

export interface StoreOptions<T> {
  clock: Clock;
  /** Which namespace's index holds the object; by default what stands before the slash of its key. */
  namespaceOf?: (value: T, key: string) => string | null;
}

const VERSIONS_KEPT = 4; // resourceVersions per key: our own write's may have been followed by others' by the time we ask

/**
 * What the API server has, as the reflector last heard. Only the reflector writes here. Listeners are called after the
 * change, and after a whole list has been taken over; what they throw goes to `onListenerError` and stops nobody.
 */
export class Store<T> {
  readonly #clock: Clock;
  readonly #namespaceOf: (value: T, key: string) => string | null;
  readonly #objects = new Map<string, { value: T; versions: string[] }>(); // the newest version last
  readonly #byNamespace = new Map<string, Set<string>>();
  readonly #listeners = new Set<(change: StoreChange<T>) => void>();
  readonly #waiting = new Map<string, Set<() => void>>();
  #isEnded = false;
  onListenerError: (error: unknown) => void = () => undefined;

  constructor(o: StoreOptions<T>) {
    this.#clock = o.clock;
    this.#namespaceOf = o.namespaceOf ?? ((_, key) => (key.includes('/') ? (key.split('/')[0] ?? null) : null));
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key)?.value;
  }

  /** What the key was last seen at; null where it is not there. */
  versionOf(key: string): string | null {
    return this.#objects.get(key)?.versions.at(-1) ?? null;
  }

  keys(): Iterable<string> {
    return this.#objects.keys();
  }

  *values(): Iterable<T> {
    for (const { value } of this.#objects.values()) yield value;
  }

  inNamespace(namespace: string): T[] {
    const keys = this.#byNamespace.get(namespace) ?? [];
    return [...keys].flatMap((key) => {
      const object = this.#objects.get(key);
      return object === undefined ? [] : [object.value];
    });
  }

  /** Returns what ends it. */
  subscribe(fn: (change: StoreChange<T>) => void): () => void {
    this.#listeners.add(fn);
    return () => void this.#listeners.delete(fn);
  }

  /**
   * Whether this resourceVersion of the key has been seen, or is within the time. By equality, since versions have no
   * order that we may rely on; the event of an own write often comes before its answer, so the last few are remembered.
   */
  waitFor(key: string, resourceVersion: string, timeoutMs: number): Promise<boolean> {
    return this.#waitUntil(key, () => this.#objects.get(key)?.versions.includes(resourceVersion) === true, timeoutMs);
  }

  /** Whether the key is no longer at this resourceVersion, gone or changed, or is not any more within the time. */
  waitForEndOf(key: string, resourceVersion: string, timeoutMs: number): Promise<boolean> {
    return this.#waitUntil(key, () => this.#objects.get(key)?.versions.at(-1) !== resourceVersion, timeoutMs);
  }

  /** Nothing will be shown any more: nobody waits for it, neither those who do now nor those who come. */
  endWaits(): void {
    this.#isEnded = true;
    for (const key of this.#waiting.keys()) this.#look(key);
  }

  #waitUntil(key: string, holds: () => boolean, timeoutMs: number): Promise<boolean> {
    if (holds() || this.#isEnded) return Promise.resolve(holds());
    return new Promise((resolve) => {
      const finish = (seen: boolean): void => {
        cancel();
        waiting.delete(check);
        if (waiting.size === 0) this.#waiting.delete(key);
        resolve(seen);
      };
      const check = (): void => {
        if (holds() || this.#isEnded) finish(holds());
      };
      const waiting = this.#waiting.get(key) ?? new Set();
      this.#waiting.set(key, waiting.add(check));
      const cancel = this.#clock.after(timeoutMs, () => finish(false));
    });
  }

  set(key: string, object: StoredObject<T>): void {
    const change = this.#put(key, object);
    if (change !== null) this.#notify(change);
  }

  delete(key: string): void {
    const change = this.#remove(key);
    if (change !== null) this.#notify(change);
  }

  /** Takes a whole list over: what is not in it is deleted, and an object of the same version is no change. */
  replace(objects: ReadonlyMap<string, StoredObject<T>>): void {
    const changes: (StoreChange<T> | null)[] = [];
    for (const key of this.#objects.keys()) {
      if (!objects.has(key)) changes.push(this.#remove(key));
    }
    for (const [key, object] of objects) changes.push(this.#put(key, object));
    for (const change of changes) if (change !== null) this.#notify(change);
  }

  #put(key: string, { value, resourceVersion }: StoredObject<T>): StoreChange<T> | null {
    const known = this.#objects.get(key);
    if (known?.versions.at(-1) === resourceVersion) return null;
    if (known !== undefined) this.#index(key, known.value, false);
    const versions = [...(known?.versions ?? []), resourceVersion].slice(-VERSIONS_KEPT);
    this.#objects.set(key, { value, versions });
    this.#index(key, value, true);
    this.#look(key);
    if (known === undefined) return { type: 'added', key, after: value };
    return { type: 'modified', key, before: known.value, after: value };
  }

  #remove(key: string): StoreChange<T> | null {
    const known = this.#objects.get(key);
    if (known === undefined) return null;
    this.#objects.delete(key);
    this.#index(key, known.value, false);
    this.#look(key);
    return { type: 'deleted', key, before: known.value };
  }

  #look(key: string): void {
    for (const check of this.#waiting.get(key) ?? []) check();
  }

  #index(key: string, value: T, isThere: boolean): void {
    const namespace = this.#namespaceOf(value, key);
    if (namespace === null) return;
    const keys = this.#byNamespace.get(namespace) ?? new Set();
    if (isThere) this.#byNamespace.set(namespace, keys.add(key));
    else if (keys.delete(key) && keys.size === 0) this.#byNamespace.delete(namespace);
  }

  #notify(change: StoreChange<T>): void {
    for (const listener of this.#listeners) {
      try {
        listener(change);
      } catch (error) {
        this.onListenerError(error);
      }
    }
  }
}
