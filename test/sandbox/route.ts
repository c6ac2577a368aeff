import { typeKey, type ResourceType } from './resourceTypes.ts';

export interface Route {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly name: string; // '' for a collection
  readonly subresource: string;
}

/** What a path names; null where nothing is served there. */
export function routeOf(pathname: string, types: ReadonlyMap<string, ResourceType>): Route | null {
  const parts = pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  const isCore = parts[0] === 'api';
  if (!isCore && parts[0] !== 'apis') return null;
  const [group, version] = isCore ? ['', parts[1]] : [parts[1] ?? '', parts[2]];
  let rest = parts.slice(isCore ? 2 : 3);
  let namespace: string | undefined;
  if (rest[0] === 'namespaces' && rest.length > 2 && rest[2] !== 'status' && rest[2] !== 'finalize') {
    namespace = rest[1];
    rest = rest.slice(2);
  }
  const [plural = '', name = '', subresource = '', ...more] = rest;
  const type = types.get(typeKey({ group, plural }));
  if (!type || type.version !== version || more.length > 0) return null;
  const route = { type, namespace, name, subresource };
  return isServed(route) ? route : null;
}

function isServed({ type, namespace, name, subresource }: Route): boolean {
  if (!type.namespaced && namespace !== undefined) return false;
  if (type.namespaced && namespace === undefined && name !== '') return false;
  return subresource === '' || type.subresources.has(subresource);
}
