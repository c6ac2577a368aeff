import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import type { KubeApi, KubeObject } from '../../cluster/kubeApi.ts';

/** One state of one object, as the API server committed it. */
export interface Version {
  collection: string; // `secrets`
  key: string; // `namespace/name`
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  object: KubeObject;
  resourceVersion: number;
  time: number; // ms, when it was seen here
}

interface Collection {
  name: string;
  path: string;
}

const collections: readonly Collection[] = [
  { name: 'secrets', path: '/api/v1/secrets' },
  { name: 'serviceaccounts', path: '/api/v1/serviceaccounts' },
  { name: 'leases', path: '/apis/coordination.k8s.io/v1/leases' },
];

class VersionLost extends Error {}

/**
 * Every version of the Secrets, ServiceAccounts and Leases of a cluster, in the order in which they were committed, as a
 * watch beside the operator shows them: straight from the API server, past every proxy.
 */
export class History {
  readonly #admin: KubeApi;
  readonly #versions: Version[] = [];
  readonly #stop = new AbortController();
  readonly #seen = new Set<string>();
  #timeline = new AbortController(); // ends where etcd goes back
  readonly #running: Promise<unknown>;

  private constructor(admin: KubeApi) {
    this.#admin = admin;
    this.#running = Promise.all(collections.map((collection) => this.#follow(collection)));
  }

  static async begin(admin: KubeApi): Promise<History> {
    const history = new History(admin);
    await history.#begun();
    return history;
  }

  /**
   * Etcd has gone back, and its versions with it: a watch from a later one would show nothing until they have come again,
   * and a version would be two. So all that was seen is forgotten, and what is there now begins the history.
   */
  async beginAnew(): Promise<void> {
    this.#versions.length = 0;
    this.#seen.clear();
    const before = this.#timeline;
    this.#timeline = new AbortController();
    before.abort();
    await this.#begun();
  }

  async #begun(): Promise<void> {
    while (this.#seen.size < collections.length) await sleep(10);
  }

  /** All of them, or those since a mark. */
  versions(since = 0): Version[] {
    return this.#versions.slice(since);
  }

  mark(): number {
    return this.#versions.length;
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** An API server that is away is waited for; what was missed meanwhile is read on from the last version. */
  async #follow(collection: Collection): Promise<void> {
    let from: string | null = null;
    let timeline = this.#timeline;
    while (!this.#stop.signal.aborted) {
      if (timeline !== this.#timeline) from = null;
      timeline = this.#timeline;
      try {
        from ??= await this.#list(collection);
        from = await this.#watch(collection, from);
      } catch (error) {
        if (error instanceof VersionLost) from = null;
        if (!this.#stop.signal.aborted) await sleep(100);
      }
    }
  }

  async #list({ name, path }: Collection): Promise<string> {
    const { body } = await this.#admin.request<{ metadata: { resourceVersion: string }; items: KubeObject[] | null }>(
      'GET',
      path,
    );
    for (const object of body.items ?? []) this.#add(name, 'ADDED', object);
    this.#seen.add(name);
    return body.metadata.resourceVersion;
  }

  /** The version to go on from. Throws VersionLost where a new list is needed. */
  async #watch({ name, path }: Collection, from: string): Promise<string> {
    let version = from;
    const { dispatcher, headers } = this.#admin.transport;
    const query = new URLSearchParams({ watch: 'true', resourceVersion: from, allowWatchBookmarks: 'true' }).toString();
    const signal = AbortSignal.any([this.#stop.signal, this.#timeline.signal]);
    const { statusCode, body } = await request(`${this.#admin.server}${path}?${query}`, {
      ...{ dispatcher, headers, signal, bodyTimeout: 0 },
    });
    if (statusCode === 410) throw new VersionLost();
    if (statusCode !== 200) throw new Error(`watch: ${statusCode}`);
    let rest = '';
    try {
      for await (const chunk of body.setEncoding('utf8') as AsyncIterable<string>) {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) version = this.#take(name, line) ?? version;
      }
    } catch (error) {
      if (error instanceof VersionLost) throw error; // else it was cut: the next watch goes on from the last version
    }
    return version;
  }

  #take(name: string, line: string): string | null {
    const { type, object } = JSON.parse(line) as { type: string; object: KubeObject };
    if (type === 'ERROR') throw new VersionLost();
    if (type !== 'BOOKMARK') this.#add(name, type as Version['type'], object);
    return object.metadata.resourceVersion ?? null;
  }

  #add(collection: string, type: Version['type'], object: KubeObject): void {
    const { namespace, name, resourceVersion } = object.metadata;
    const key = `${namespace}/${name}`;
    const known = this.#versions.findLast((version) => version.collection === collection && version.key === key);
    if (known?.object.metadata.resourceVersion === resourceVersion && known?.type !== 'DELETED') return;
    this.#versions.push({
      ...{ collection, key, type, object, time: Date.now() },
      resourceVersion: Number(resourceVersion),
    });
  }
}
