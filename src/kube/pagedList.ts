import { TransientError } from '../errors.ts';
import type { KubeClient } from './client.ts';
import type { KubeList, KubeObject } from './kubeObject.ts';
import { asExpired } from './reflectorErrors.ts';

export interface PagedListOptions {
  client: Pick<KubeClient, 'request'>;
  path: string;
  query?: Record<string, string>; // selectors
  metadataOnly?: boolean;
  kind: string; // for errors
  pageSize?: number;
  signal: AbortSignal;
}

/**
 * Reads a whole list, page by page, and hands each object to `onItem`. It asks for no resourceVersion: what it reads is
 * the newest. Returns the version of the list. Throws what the client throws, and `Expired` where the pages to come are
 * lost and the list must begin anew.
 */
export async function readPages(o: PagedListOptions, onItem: (item: KubeObject) => void): Promise<string> {
  const { client, path, query, metadataOnly, kind, pageSize = 500, signal } = o;
  let next: string | undefined;
  for (;;) {
    const page: KubeList = await client
      .request<KubeList>({
        method: 'GET',
        path,
        query: { ...query, limit: String(pageSize), ...(next !== undefined && { continue: next }) },
        metadataOnly,
        signal,
      })
      .catch((error: unknown) => {
        throw next === undefined ? error : asExpired(error);
      });
    page.items.forEach(onItem);
    next = page.metadata?.continue || undefined;
    const version = page.metadata?.resourceVersion;
    if (!version) throw new TransientError('NotKubernetes', `cannot list ${kind}: no resourceVersion`);
    if (next === undefined) return version;
  }
}
