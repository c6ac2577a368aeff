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
  readonly #published = new Map<string, FormerToken>(); // by the broker's key
  readonly #replaced = new Map<string, FormerToken>(); // by the broker's key, while namespaces still hold them

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

  /** A token is new: remembers what namespaces hold until they get it. Returns whether there was anything. */
  noteNew(key: string, host: string): boolean {
    const before = this.#published.get(key);
    const { token } = this.#broker.hostStatus(key, host);
    if (token.state === 'usable') {
      this.#published.set(key, { issuedAt: token.issuedAt.getTime(), endsAt: token.expiresAt.getTime() });
    }
    if (before) this.#replaced.set(key, before);
    return before !== undefined;
  }

  /** Namespaces a second in the refresh lane. */
  pace(configured: number, { waiting, now }: { waiting: number; now: number }): number {
    if (waiting === 0) this.#replaced.clear();
    return refreshPace(configured, { waiting, former: this.#replaced.values(), now });
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
