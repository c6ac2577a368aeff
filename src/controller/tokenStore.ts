import { fieldManager, labels, tokenStoreName, tokenStoreType } from '../api/groupVersion.ts';
import type { StoredToken } from '../aws/tokenBroker.ts';
import { ApiStatusError } from '../kube/apiStatusError.ts';
import type { KubeClient } from '../kube/client.ts';

// A Secret takes 1 MiB. What does not fit costs one AWS call at the next start.
const LIMIT_BYTES = 900 * 1024;
const DATA_KEY = 'tokens.json';

/**
 * The tokens in one Secret of the operator's own namespace: after a restart, a failover or while AWS is away, new
 * namespaces are served at once.
 */
export class TokenStore {
  readonly #client: Pick<KubeClient, 'request'>;
  readonly #namespace: string;

  constructor(options: { client: Pick<KubeClient, 'request'>; namespace: string }) {
    this.#client = options.client;
    this.#namespace = options.namespace;
  }

  async load(): Promise<StoredToken[]> {
    try {
      const secret = await this.#client.request<{ data?: Record<string, string> }>({
        method: 'GET',
        path: this.#path,
      });
      return parse(Buffer.from(secret.data?.[DATA_KEY] ?? '', 'base64').toString());
    } catch (error) {
      if (error instanceof ApiStatusError && error.status === 404) return [];
      throw error;
    }
  }

  async save(tokens: readonly StoredToken[], beforeSend: () => void): Promise<void> {
    await this.#client.request({
      method: 'PATCH',
      patch: 'apply',
      path: this.#path,
      query: { fieldManager, force: 'true' },
      body: {
        apiVersion: 'v1',
        kind: 'Secret',
        type: tokenStoreType,
        metadata: { name: tokenStoreName, namespace: this.#namespace, labels: { [labels.managedBy]: fieldManager } },
        data: { [DATA_KEY]: Buffer.from(JSON.stringify(whatFits(tokens))).toString('base64') },
      },
      metadataOnly: true,
      beforeSend,
    });
  }

  get #path(): string {
    return `/api/v1/namespaces/${this.#namespace}/secrets/${tokenStoreName}`;
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
