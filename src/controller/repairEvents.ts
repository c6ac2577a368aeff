import type { Write } from '../core/diffNamespace.ts';
import type { EventRecorder } from '../kube/eventRecorder.ts';
import type { Logger } from '../observability/log.ts';
import type { SecretObject, ServiceAccountObject } from './observedObjects.ts';

// From here on it is a fight with another writer, and somebody should look.
const FIGHT = 3;

/** Tells of a repair, and names who made it necessary where the API server keeps books about it. */
export function announceRepair(
  write: Write,
  context: { namespace: string; secretName: string; count: number; events: Pick<EventRecorder, 'record'>; log: Logger },
): void {
  const { namespace, secretName, count, events, log } = context;
  const type = count >= FIGHT ? 'Warning' : 'Normal';
  const again = count > 1 ? ` (${count} times lately)` : '';
  if (write.kind === 'AddEntry') {
    const { name, listManager } = write.serviceAccount as ServiceAccountObject;
    const note = `the entry ${secretName} of imagePullSecrets was dropped${by(listManager)} and is added again${again}`;
    log.info({ kind: 'ServiceAccount', namespace, name, count }, note);
    const regarding = { apiVersion: 'v1', kind: 'ServiceAccount', name, namespace };
    events.record({ regarding, type, reason: 'EntryRestored', action: 'Repair', note });
  }
  if (write.kind === 'ApplySecret') {
    const observed = write.observed as SecretObject | null;
    const what = observed ? `was changed${by(observed.otherManager)}` : 'was deleted';
    const note = `the Secret ${what} and is put right${again}`;
    log.info({ kind: 'Secret', namespace, name: secretName, count }, note);
    const regarding = { apiVersion: 'v1', kind: 'Secret', name: secretName, namespace };
    events.record({ regarding, type, reason: 'SecretRestored', action: 'Repair', note });
  }
}

function by(manager: string | null): string {
  return manager === null ? '' : ` by ${manager}`;
}

/** Tells that a Secret of ours had to be made anew, as somebody had made it immutable. */
export function announceRecreation(context: {
  namespace: string;
  secretName: string;
  events: Pick<EventRecorder, 'record'>;
  log: Logger;
}): void {
  const { namespace, secretName, events, log } = context;
  const note = 'somebody had made the Secret immutable, so it could not be refreshed: it was deleted and made anew';
  log.warn({ kind: 'Secret', namespace, name: secretName }, note);
  const regarding = { apiVersion: 'v1', kind: 'Secret', name: secretName, namespace };
  events.record({ regarding, type: 'Warning', reason: 'ImmutableSecretRecreated', action: 'Repair', note });
}

/** Tells, once for each who does it, that a Secret with our marks was put again where none is to be. */
export function announceClone(
  { name, otherManager }: SecretObject,
  context: { namespace: string; events: Pick<EventRecorder, 'record'>; log: Logger },
): void {
  const { namespace, events, log } = context;
  const note = `a Secret with our marks was put here again${by(otherManager)}, though nothing of ours is to be in this namespace, and is removed ever more slowly: leave it out of what clones Secrets, or select the namespace`;
  log.info({ kind: 'Secret', namespace, name }, note);
  const regarding = { apiVersion: 'v1', kind: 'Secret', name, namespace };
  events.record({ regarding, type: 'Warning', reason: 'CloneRemoved', action: 'Remove', note });
}
