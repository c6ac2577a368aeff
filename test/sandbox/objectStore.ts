import { randomUUID } from 'node:crypto';
import { expired } from './apiFailure.ts';
import { timestamp, type KubeObject } from './kubeObject.ts';
import { typeKey, type ResourceType } from './resourceTypes.ts';

export interface Change {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly of: string; // typeKey
  readonly object: KubeObject;
  readonly before: KubeObject | null;
}

export interface Page {
  readonly objects: readonly KubeObject[];
  readonly version: number;
  readonly next: string; // continue token; '' on the last page
  readonly remaining: number;
}

const LONGEST_HISTORY = 200_000; // changes

/** All objects, one resourceVersion for all of them, and what changed since the last compaction: what etcd is to Kubernetes. */
export class ObjectStore {
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #sorted = new Map<string, KubeObject[]>();
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #snapshots = new Map<string, { objects: KubeObject[]; version: number }>();
  #history: Change[] = [];
  #version = 100;
  #compacted = 0;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  get version(): number {
    return this.#version;
  }

  get(type: ResourceType, namespace: string | undefined, name: string): KubeObject | null {
    return this.#objects.get(typeKey(type))?.get(keyOf(namespace, name)) ?? null;
  }

  /** In the order of etcd: by namespace, then name. */
  list(type: Pick<ResourceType, 'group' | 'plural'>, namespace?: string): readonly KubeObject[] {
    const key = typeKey(type);
    let sorted = this.#sorted.get(key);
    if (!sorted) {
      const entries = [...(this.#objects.get(key) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
      this.#sorted.set(key, (sorted = entries.map(([, object]) => object)));
    }
    return namespace === undefined ? sorted : sorted.filter(({ metadata }) => metadata.namespace === namespace);
  }

  create(type: ResourceType, object: KubeObject): KubeObject {
    const { name, namespace, generation, ...rest } = object.metadata;
    const identity = { uid: randomUUID(), resourceVersion: '', creationTimestamp: timestamp(this.#now()) };
    const metadata = {
      name,
      ...(namespace !== undefined && { namespace }),
      ...(generation !== undefined && { generation }),
      ...rest,
      ...identity,
    };
    return this.#commit('ADDED', type, { ...object, metadata }, null);
  }

  update(type: ResourceType, object: KubeObject, before: KubeObject): KubeObject {
    return this.#commit('MODIFIED', type, object, before);
  }

  delete(type: ResourceType, object: KubeObject): KubeObject {
    return this.#commit('DELETED', type, object, object);
  }

  /** Everything of a type forgotten, without an event. */
  forget(type: ResourceType): void {
    this.#objects.delete(typeKey(type));
    this.#sorted.delete(typeKey(type));
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Changes after this version. Throws 410 where they are compacted. */
  since(version: number, type: ResourceType): Change[] {
    if (version < this.#compacted) throw expired(`too old resource version: ${version} (${this.#compacted})`);
    const key = typeKey(type);
    return this.#history.slice(this.#firstAfter(version)).filter((change) => change.of === key);
  }

  #firstAfter(version: number): number {
    let [low, high] = [0, this.#history.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#history[middle]?.version ?? 0) > version) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Older versions than now are gone, for watches and for pages. */
  compact(): void {
    this.#version += 1;
    this.#compacted = this.#version;
    this.#history = [];
    this.#snapshots.clear();
  }

  /** Back to a lower version, as after a restore of etcd; the objects stay. */
  rewind(version: number): void {
    this.#version = version;
    this.#compacted = 0;
    this.#history = [];
    this.#snapshots.clear();
  }

  firstPage(objects: readonly KubeObject[], limit: number): Page {
    return this.#page({ objects: [...objects], version: this.#version }, 0, limit);
  }

  /** Of the snapshot that the first page was taken from. Null where the token is none; 410 where it is compacted. */
  nextPage(token: string, limit: number): Page | null {
    const parsed = parseToken(token);
    if (!parsed) return null;
    const snapshot = this.#snapshots.get(parsed.id);
    if (!snapshot) {
      throw expired('The provided continue parameter is too old to display a consistent list result.');
    }
    return this.#page(snapshot, parsed.start, limit, parsed.id);
  }

  #page(snapshot: { objects: KubeObject[]; version: number }, start: number, limit: number, id?: string): Page {
    const end = limit > 0 ? start + limit : snapshot.objects.length;
    const remaining = Math.max(0, snapshot.objects.length - end);
    let next = '';
    if (remaining > 0) {
      const known = id ?? randomUUID();
      this.#snapshots.set(known, snapshot);
      next = Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: snapshot.version, id: known, start: end })).toString(
        'base64url',
      );
    }
    return { objects: snapshot.objects.slice(start, end), version: snapshot.version, next, remaining };
  }

  #commit(type: Change['type'], of: ResourceType, object: KubeObject, before: KubeObject | null): KubeObject {
    this.#version += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    const stored = { ...object, metadata };
    const key = typeKey(of);
    const objects = this.#objects.get(key) ?? new Map<string, KubeObject>();
    this.#objects.set(key, objects);
    const id = keyOf(metadata.namespace, metadata.name);
    if (type === 'DELETED') objects.delete(id);
    else objects.set(id, stored);
    this.#sorted.delete(key);
    const change = { version: this.#version, type, of: key, object: stored, before };
    this.#history.push(change);
    if (this.#history.length > LONGEST_HISTORY) this.#dropHistory(LONGEST_HISTORY / 2);
    for (const listener of this.#listeners) listener(change);
    return stored;
  }

  #dropHistory(count: number): void {
    this.#compacted = this.#history[count - 1]?.version ?? this.#compacted;
    this.#history = this.#history.slice(count);
  }
}

function keyOf(namespace: string | undefined, name: string): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

function parseToken(token: string): { id: string; start: number } | null {
  try {
    const { id, start } = JSON.parse(Buffer.from(token, 'base64url').toString()) as { id: unknown; start: unknown };
    return typeof id === 'string' && typeof start === 'number' ? { id, start } : null;
  } catch {
    return null;
  }
}
