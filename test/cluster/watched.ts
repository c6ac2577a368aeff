import { resourcesPath } from '../../src/api/groupVersion.ts';
import type { ApiServerProxy, ProxiedRequest } from './apiServerProxy.ts';
import { eventually } from './eventually.ts';

/** What the operator decides upon, and the kind that it is told as. */
export const kindOf: ReadonlyMap<string, string> = new Map([
  ['/api/v1/namespaces', 'Namespace'],
  ['/api/v1/serviceaccounts', 'ServiceAccount'],
  ['/api/v1/secrets', 'Secret'],
  [resourcesPath, 'ClusterECRPullSecret'],
]);

/** It lists and watches each. */
export const collections: readonly string[] = [...kindOf.keys()];

export function collectionOf({ path }: Pick<ProxiedRequest, 'path'>): string {
  return path.split('?')[0] ?? '';
}

/**
 * Every watch of these, through each proxy, has stood for so long that its end is no failure, and no failure before it is
 * remembered. One that has just been cut may still seem to stand: `since` when (ms) it is to have begun.
 */
export async function everyWatchStands(
  proxies: readonly ApiServerProxy[],
  { of = collections, since = 0 }: { of?: readonly string[]; since?: number } = {},
): Promise<void> {
  const stands = ({ requests }: ApiServerProxy, collection: string) => {
    const last = requests.findLast((request) => request.isWatch && collectionOf(request) === collection);
    if (last === undefined || last.time < since) return false;
    return last.endedAt === null && last.status === 200 && Date.now() - last.time > 1_100;
  };
  await eventually(
    'every watch stands',
    () => proxies.every((proxy) => of.every((collection) => stands(proxy, collection))),
    60_000,
  );
}
