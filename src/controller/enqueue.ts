import type { Lane, WorkQueue } from '../kube/workQueue.ts';
import type { Caches } from './caches.ts';
import type { NamespaceObject, ResourceObject, ServiceAccountObject } from './observedObjects.ts';

/** What the mapping of events needs of the controller. */
export interface EnqueueTargets {
  readonly queue: Pick<WorkQueue, 'add'>;
  readonly namespaceGone: (name: string) => void;
  readonly namespaceChanged: (name: string) => void;
  readonly serviceAccountGone: (namespace: string, name: string) => void;
  readonly resourceChanged: (name: string) => void;
  readonly resourceGone: (name: string) => void;
  readonly credentialsChanged: (secretName: string) => void;
  readonly crdReplaced: () => void;
  readonly statusChanged: (resource: string) => void;
}

/** Maps each change of a store to the namespaces and resources that it touches. Returns what ends the listening. */
export function listen(caches: Caches, targets: EnqueueTargets): () => void {
  const urgent: Lane = 'urgent';
  const { queue } = targets;
  const subscriptions = [
    caches.namespaces.store.subscribe(({ type, key, before, after }) => {
      if (isGone(before, after)) targets.namespaceGone(key);
      if (type === 'deleted') return;
      if (!before || !after || isOtherNamespace(before, after)) targets.namespaceChanged(key);
    }),
    caches.resources.store.subscribe(({ type, key, before, after }) => {
      if (type === 'deleted') targets.resourceGone(key);
      else if (!before || !after || isOtherResource(before, after)) targets.resourceChanged(key);
      else targets.statusChanged(key); // somebody may have edited it
    }),
    caches.crds.store.subscribe(({ before, after }) => {
      if (before?.uid !== after?.uid) targets.crdReplaced();
    }),
    ...[...caches.secrets.values()].map(({ store }) =>
      store.subscribe(({ before, after }) => queue.add((after ?? before)?.namespace ?? '', urgent)),
    ),
    ...[...caches.credentials].map(([name, { store }]) => store.subscribe(() => targets.credentialsChanged(name))),
  ];
  const { serviceAccounts } = caches;
  if (serviceAccounts) {
    subscriptions.push(
      serviceAccounts.store.subscribe(({ before, after }) => {
        if (before && isGone(before, after)) targets.serviceAccountGone(before.namespace, before.name);
        if (!after) return;
        if (!before || isOtherServiceAccount(before, after)) queue.add(after.namespace, urgent);
      }),
    );
  }
  return () => subscriptions.forEach((unsubscribe) => unsubscribe());
}

// A watch that was down may show the next of its name in the place of a deletion.
function isGone(before: { uid: string } | undefined, after: { uid: string } | undefined): boolean {
  return before !== undefined && before.uid !== after?.uid;
}

function isOtherNamespace(before: NamespaceObject, after: NamespaceObject): boolean {
  return (
    before.uid !== after.uid ||
    before.ignored !== after.ignored ||
    before.terminating !== after.terminating ||
    JSON.stringify(before.labels) !== JSON.stringify(after.labels)
  );
}

// Status has no part in it, or each write of ours would be a reason for the next.
function isOtherResource(before: ResourceObject, after: ResourceObject): boolean {
  return (
    before.uid !== after.uid ||
    before.generation !== after.generation ||
    before.refreshRequestedAt !== after.refreshRequestedAt
  );
}

function isOtherServiceAccount(before: ServiceAccountObject, after: ServiceAccountObject): boolean {
  return (
    before.uid !== after.uid ||
    before.isIgnored !== after.isIgnored ||
    before.ownedAt !== after.ownedAt ||
    before.entries.join() !== after.entries.join()
  );
}
