import type { KubeRequest } from './client.ts';

/** Whether a request may be sent again when nobody knows if the first one arrived. */
export function isIdempotent(r: Pick<KubeRequest, 'method' | 'patch' | 'body'>): boolean {
  if (r.method === 'GET' || r.method === 'DELETE' || r.patch === 'apply') return true;
  if (r.patch === 'json') return testsResourceVersion(r.body);
  return r.method !== 'POST' && namesResourceVersion(r.body);
}

function testsResourceVersion(body: unknown): boolean {
  if (!Array.isArray(body)) return false;
  const operations: { op?: unknown; path?: unknown }[] = body;
  return operations.some(({ op, path }) => op === 'test' && path === '/metadata/resourceVersion');
}

function namesResourceVersion(body: unknown): boolean {
  const { metadata } = (body ?? {}) as { metadata?: { resourceVersion?: unknown } };
  return typeof metadata?.resourceVersion === 'string' && metadata.resourceVersion !== '';
}
