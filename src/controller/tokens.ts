import type { TokenBroker } from '../aws/tokenBroker.ts';
import { entryHash, type TokenState } from '../core/planNamespace.ts';
import type { RegistryFacts } from '../core/status.ts';
import { refreshPace, type FormerToken } from './refreshPace.ts';
import type { ResourceBook } from './resourceBook.ts';
import type { ResolvedResource } from './resolveResource.ts';

const HASHES_KEPT = 1_000;

/** The broker's tokens as the plan, the status and the pace of the refresh lane ask for them. */
export class Tokens {
  readonly #broker: Pick<TokenBroker, 'hostStatus'>;
  readonly #book: ResourceBook;
  readonly #hashes = new Map<string, string>();
  readonly #published = new Map<string, FormerToken>(); // by the broker's key and host
  readonly #replaced = new Map<string, FormerToken>(); // the same, while namespaces still hold them

  constructor(options: { broker: Pick<TokenBroker, 'hostStatus'>; book: ResourceBook }) {
    this.#broker = options.broker;
    this.#book = options.book;
  }

  stateOf(resource: string, host: string): TokenState {
    const key = this.#book.get(resource)?.keys.get(host);
    if (key === undefined) return { state: 'unknown' };
    const { token } = this.#broker.hostStatus(key, host);
    return token.state === 'usable' ? { state: 'usable', auth: token.auth } : { state: token.state };
  }

  /** A thousand namespaces share a token, and its hash. */
  hashOf(auth: string): string {
    const known = this.#hashes.get(auth);
    if (known !== undefined) return known;
    if (this.#hashes.size >= HASHES_KEPT) this.#hashes.clear();
    const hash = entryHash(auth);
    this.#hashes.set(auth, hash);
    return hash;
  }

  /**
   * Tokens are new, or gone: remembers what namespaces hold until they get them. `waiting`: how many are in the refresh
   * lane yet. Returns whether all of these hosts had a token before.
   */
  noteNew(key: string, hosts: readonly string[], { waiting }: { waiting: number }): boolean {
    // Whoever held a former one has had its turn.
    if (waiting === 0) this.#replaced.clear();
    return hosts.map((host) => this.#noteHost(key, host)).every(Boolean);
  }

  /** Namespaces a second in the refresh lane. */
  pace(configured: number, { waiting, now }: { waiting: number; now: number }): number {
    return refreshPace(configured, { waiting, former: this.#replaced.values(), now });
  }

  #noteHost(key: string, host: string): boolean {
    const id = JSON.stringify([key, host]);
    const before = this.#published.get(id);
    const { token } = this.#broker.hostStatus(key, host);
    if (token.state === 'unknown') {
      this.#published.delete(id);
      this.#replaced.delete(id);
    }
    if (token.state === 'usable') {
      const now = { issuedAt: token.issuedAt.getTime(), endsAt: token.expiresAt.getTime() };
      this.#published.set(id, now);
      // Of several that follow each other, the first is the one that namespaces still hold.
      const isOther = before !== undefined && before.issuedAt !== now.issuedAt;
      if (isOther && !this.#replaced.has(id)) this.#replaced.set(id, before);
    }
    return before !== undefined;
  }

  /** The checks of an earlier run's tokens are under way: what was told of them may still be so. */
  isUnconfirmed({ registries, keys }: ResolvedResource): boolean {
    return registries.some(({ host }) => {
      const key = keys.get(host);
      return key !== undefined && this.#broker.hostStatus(key, host).isUnconfirmed;
    });
  }

  factsOf(resource: ResolvedResource): RegistryFacts[] {
    return resource.registries.map(({ host, region }) => this.#registryFacts(resource, { host, region }));
  }

  #registryFacts(resource: ResolvedResource, registry: { host: string; region: string }): RegistryFacts {
    const key = resource.keys.get(registry.host);
    if (key === undefined) {
      const none = { expiresAt: null, lastRefreshTime: null, nextRefreshTime: null, note: null };
      return { ...registry, ...none, state: 'unknown', failure: resource.identityProblem };
    }
    const { token, note, isUnconfirmed: _, ...rest } = this.#broker.hostStatus(key, registry.host);
    return {
      ...{ ...registry, ...rest, state: token.state },
      expiresAt: token.state === 'unknown' ? null : token.expiresAt,
      note: this.#otherProvider(registry.host, resource) ?? note,
    };
  }

  #otherProvider(host: string, { object }: ResolvedResource): string | null {
    const first = this.#book.all.find(
      (other) => other.view.held === null && this.stateOf(other.object.name, host).state === 'usable',
    );
    if (!first || first.object.name >= object.name) return null;
    return `where both select a namespace, ${first.object.name} provides this host: its name comes first`;
  }
}
