import { whyNotSelected } from '../core/namespaceSelection.ts';
import type { ResourceView } from '../core/planNamespace.ts';
import type { NamespaceFacts } from '../core/status.ts';
import type { NamespaceObject } from './observedObjects.ts';

/** How the last run of a namespace ended. */
export type NamespaceState =
  | { readonly kind: 'Ready' }
  | { readonly kind: 'Waiting' }
  | { readonly kind: 'Blocked'; readonly message: string }
  | { readonly kind: 'Failed'; readonly code: string; readonly message: string };

// Being new is no failure: the namespace's ServiceAccount may not be there yet.
const YOUNG_MS = 60_000;

/** Counts the namespaces of one resource by how their last run ended. */
export function namespaceFacts(
  view: ResourceView,
  namespaces: Iterable<NamespaceObject>,
  { stateOf, serverNow }: { stateOf: (namespace: string) => NamespaceState | undefined; serverNow: number },
): NamespaceFacts {
  let matched = 0;
  let ready = 0;
  let young = 0;
  const blocked: { namespace: string; message: string }[] = [];
  const failed: { namespace: string; message: string }[] = [];
  for (const namespace of namespaces) {
    if (whyNotSelected(view.namespaces, namespace) !== null) continue;
    matched++;
    const state = stateOf(namespace.name) ?? { kind: 'Waiting' };
    if (state.kind === 'Ready') ready++;
    else if (state.kind === 'Blocked') blocked.push({ namespace: namespace.name, message: state.message });
    else if (state.kind === 'Failed') failed.push({ namespace: namespace.name, message: state.message });
    else if (serverNow - namespace.createdAt < YOUNG_MS) young++;
  }
  return { matched, ready, young, blocked: inOrder(blocked), failed: inOrder(failed) };
}

function inOrder(failures: { namespace: string; message: string }[]): { namespace: string; message: string }[] {
  return failures.sort((a, b) => (a.namespace < b.namespace ? -1 : 1));
}
