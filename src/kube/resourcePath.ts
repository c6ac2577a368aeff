/** What a path of the API is about, for messages and metrics. */
export interface ResourcePath {
  /** Plural, with the subresource after a slash; null where the path is none of a resource: `/version`. */
  resource: string | null;
  namespace?: string;
  name?: string;
}

/** `/api/v1/namespaces/team/secrets/pull` → `{ resource: 'secrets', namespace: 'team', name: 'pull' }`. */
export function parseResourcePath(path: string): ResourcePath {
  const parts = path.split('/').filter((part) => part !== '');
  const rest = parts[0] === 'api' ? parts.slice(2) : parts[0] === 'apis' ? parts.slice(3) : [];
  const [first, second, third, ...more] = rest;
  if (first === undefined) return { resource: null };
  if (first !== 'namespaces' || third === undefined || third === 'finalize' || third === 'status') {
    return resourcePath(first, second, third);
  }
  return { ...resourcePath(third, more[0], more[1]), ...(second !== undefined && { namespace: second }) };
}

function resourcePath(plural: string, name: string | undefined, subresource: string | undefined): ResourcePath {
  return {
    resource: subresource === undefined ? plural : `${plural}/${subresource}`,
    ...(name !== undefined && { name }),
  };
}
