import { fieldManager, labels, tokenStoreName, tokenStoreType } from '../api/groupVersion.ts';
import type { StoredToken } from '../aws/tokenBroker.ts';
import { sleep, type Clock, type Random } from '../clock.ts';
import { outcomeOf } from '../errors.ts';
import { ApiStatusError } from '../kube/apiStatusError.ts';
import { Backoff } from '../kube/backoff.ts';
import type { KubeClient } from '../kube/client.ts';
import type { BeforeSend } from '../kube/exchange.ts';
import type { Logger } from '../observability/log.ts';

// A Secret takes 1 MiB. What does not fit costs one AWS call at the next start.
const LIMIT_BYTES = 900 * 1024;
const DATA_KEY = 'tokens.json';

export interface TokenStoreOptions {
  readonly client: Pick<KubeClient, 'request'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly namespace: string;
}

/**
 * The tokens in one Secret of the operator's own namespace: after a restart, a failover or while AWS is away, new
 * namespaces are served at once.
 */
export class TokenStore {
  readonly #options: TokenStoreOptions;
  readonly #backoff: Backoff;
  #toKeep: readonly StoredToken[] | null = null;

  constructor(options: TokenStoreOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options);
  }

  async load(): Promise<StoredToken[]> {
    try {
      const secret = await this.#options.client.request<{ data?: Record<string, string> }>({
        method: 'GET',
        path: this.#path,
      });
      return parse(Buffer.from(secret.data?.[DATA_KEY] ?? '', 'base64').toString());
    } catch (error) {
      if (error instanceof ApiStatusError && error.status === 404) return [];
      throw error;
    }
  }

  /**
   * Stores these, however often it takes: a leader that dies before it would leave its tokens to nobody. What is kept
   * after them takes their place.
   */
  async keep(tokens: readonly StoredToken[], o: { beforeSend: BeforeSend; signal: AbortSignal }): Promise<void> {
    const isAtIt = this.#toKeep !== null;
    this.#toKeep = tokens;
    if (isAtIt) return;
    while (this.#toKeep !== null) {
      const next: readonly StoredToken[] = this.#toKeep;
      const isDone = await this.#isKept(next, o);
      if ((isDone && this.#toKeep === next) || o.signal.aborted) this.#toKeep = null;
    }
  }

  async #isKept(
    tokens: readonly StoredToken[],
    { beforeSend, signal }: { beforeSend: BeforeSend; signal: AbortSignal },
  ): Promise<boolean> {
    const { clock, log } = this.#options;
    try {
      await this.#save(tokens, beforeSend);
      this.#backoff.reset();
      return true;
    } catch (error) {
      const outcome = outcomeOf(error);
      if (outcome.kind === 'Stopped') return true; // they are the next leader's to keep
      log.warn({ err: error }, 'the tokens could not be stored: who leads next would ask AWS');
      const leastMs = outcome.kind === 'Throttled' ? outcome.retryAfterMs : 0;
      await sleep(clock, Math.max(this.#backoff.next(), leastMs), signal);
      return false;
    }
  }

  async #save(tokens: readonly StoredToken[], beforeSend: BeforeSend): Promise<void> {
    await this.#options.client.request({
      method: 'PATCH',
      patch: 'apply',
      path: this.#path,
      query: { fieldManager, force: 'true' },
      body: {
        apiVersion: 'v1',
        kind: 'Secret',
        type: tokenStoreType,
        metadata: {
          name: tokenStoreName,
          namespace: this.#options.namespace,
          labels: { [labels.managedBy]: fieldManager },
        },
        data: { [DATA_KEY]: Buffer.from(JSON.stringify(whatFits(tokens))).toString('base64') },
      },
      metadataOnly: true,
      beforeSend,
    });
  }

  get #path(): string {
    return `/api/v1/namespaces/${this.#options.namespace}/secrets/${tokenStoreName}`;
  }
}

function parse(text: string): StoredToken[] {
  try {
    const stored: unknown = JSON.parse(text);
    return Array.isArray(stored) ? stored.filter(isStoredToken) : [];
  } catch {
    return [];
  }
}

function isStoredToken(value: unknown): value is StoredToken {
  const token = value as Partial<Record<keyof StoredToken, unknown>> | null;
  return (['key', 'host', 'auth', 'issuedAt', 'expiresAt'] as const).every(
    (field) => typeof token?.[field] === 'string',
  );
}

// The newest first: they live longest.
function whatFits(tokens: readonly StoredToken[]): StoredToken[] {
  let size = 0;
  return tokens
    .toSorted((a, b) => b.issuedAt.localeCompare(a.issuedAt))
    .filter((token) => (size += JSON.stringify(token).length + 1) <= LIMIT_BYTES);
}
