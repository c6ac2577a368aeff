import type { Write } from '../core/diffNamespace.ts';
import type { Store } from '../kube/store.ts';
import { secretPath, serviceAccountPath } from './applyWrites.ts';
import type { Cache, RemovalCaches } from './caches.ts';

const SEEN_MS = 5_000;
const LOOKS = 3;

type WrittenKind = 'Secret' | 'ServiceAccount';

interface Written {
  readonly kind: WrittenKind;
  readonly name: string;
}

/**
 * Our own writes, and the watches that should show them. Where a watch is down, or has not shown one in time, the object
 * itself is read before it is written to again: it may be as it should be.
 */
export class OwnWrites {
  readonly #caches: Pick<RemovalCaches, 'secrets' | 'serviceAccounts'>;
  readonly #secretName: string;
  readonly #unseen = new Map<string, Set<string>>(); // namespace → kinds and names

  constructor({ caches, secretName }: { caches: RemovalCaches; secretName: string }) {
    this.#caches = caches;
    this.#secretName = secretName;
  }

  /** Resolves when the watch has shown the write, or after a while; at once where it cannot show anything. */
  seen(namespace: string, written: Written, resourceVersion: string): Promise<void> {
    return this.#shown(namespace, written, (store, key, waitMs) => store.waitFor(key, resourceVersion, waitMs));
  }

  /** The same of a deletion: the watch no longer shows the Secret at this resourceVersion. */
  seenGone(namespace: string, name: string, resourceVersion: string): Promise<void> {
    return this.#shown(namespace, { kind: 'Secret', name }, (store, key, waitMs) =>
      store.waitForEndOf(key, resourceVersion, waitMs),
    );
  }

  async #shown(
    namespace: string,
    written: Written,
    wait: (store: Store<unknown>, key: string, waitMs: number) => Promise<boolean>,
  ): Promise<void> {
    const cache = this.#cacheOf(written);
    if (!cache) return;
    const isSeen = await wait(cache.store, `${namespace}/${written.name}`, isUp(cache) ? SEEN_MS : 0);
    if (!isSeen) this.#noteUnseen(namespace, written);
  }

  /** Takes into the stores what these writes go to, where its watch is known to be behind; whether any was. */
  async catchUp(namespace: string, writes: readonly Write[]): Promise<boolean> {
    const targets = writes.map((write) => this.#targetOf(write));
    const behind = new Map(targets.filter((it) => this.#isBehind(namespace, it)).map((it) => [idOf(it), it]));
    for (const [id, target] of behind) {
      if (await this.#lookUp(namespace, target)) this.#unseen.get(namespace)?.delete(id);
    }
    return behind.size > 0;
  }

  async #lookUp(namespace: string, target: Written): Promise<boolean> {
    const { kind, name } = target;
    const path = (kind === 'Secret' ? secretPath : serviceAccountPath)({ namespace }, name);
    const { reflector } = this.#cacheOf(target) ?? {};
    for (let looks = 0; looks < LOOKS; looks += 1) {
      if (await reflector?.lookUp(`${namespace}/${name}`, path)) return true;
    }
    return false;
  }

  forget(namespace: string): void {
    this.#unseen.delete(namespace);
  }

  clear(): void {
    this.#unseen.clear();
  }

  #isBehind(namespace: string, target: Written): boolean {
    const cache = this.#cacheOf(target);
    if (!cache) return false;
    return !isUp(cache) || this.#unseen.get(namespace)?.has(idOf(target)) === true;
  }

  #targetOf(write: Write): Written {
    if (write.kind === 'ApplySecret') return { kind: 'Secret', name: this.#secretName };
    if (write.kind === 'DeleteSecret') return { kind: 'Secret', name: write.observed.name };
    return { kind: 'ServiceAccount', name: write.serviceAccount.name };
  }

  #cacheOf({ kind, name }: Written): Pick<Cache<unknown>, 'store' | 'reflector'> | null {
    if (kind === 'ServiceAccount') return this.#caches.serviceAccounts as Cache<unknown> | null;
    return (this.#caches.secrets.get(name) as Cache<unknown> | undefined) ?? null;
  }

  #noteUnseen(namespace: string, written: Written): void {
    const unseen = this.#unseen.get(namespace) ?? new Set();
    this.#unseen.set(namespace, unseen.add(idOf(written)));
  }
}

function isUp({ reflector }: Pick<Cache<unknown>, 'reflector'>): boolean {
  return reflector.state.error === null;
}

function idOf({ kind, name }: Written): string {
  return `${kind}/${name}`;
}
