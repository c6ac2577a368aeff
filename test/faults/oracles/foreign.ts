import { isDeepStrictEqual } from 'node:util';
import {
  annotations,
  fieldManager,
  group,
  labels,
  operatorName,
  plural,
  tokenStoreName,
} from '../../../src/api/groupVersion.ts';
import type { AuditEvent } from '../../cluster/auditLog.ts';
import type { KubeObject } from '../../cluster/kubeApi.ts';
import type { Step } from './authorship.ts';

/** Invariant 1: no entry, Secret or field of somebody else is ever changed by the operator. What it did, in words. */
export function foreignChanges(steps: readonly Step[], secretName: string): string[] {
  return steps.flatMap((step) => {
    if (!step.isOurs) return [];
    if (step.after.collection === 'serviceaccounts') return ofAccount(step, secretName);
    return step.after.collection === 'secrets' ? ofSecret(step, secretName) : [];
  });
}

/** The same of all that it tried to write, whatever came of it; a dry run tries nothing. */
export function strangeWrites(
  ofOperator: readonly AuditEvent[],
  o: { secretName: string; namespace: string },
): string[] {
  const strange = ofOperator.filter((event) => !event.requestURI.includes('dryRun=All') && !isItsOwn(event, o));
  return strange.map(({ verb, requestURI }) => `it tried to ${verb} ${requestURI}`);
}

function isItsOwn({ verb, objectRef }: AuditEvent, o: { secretName: string; namespace: string }): boolean {
  const { apiGroup = '', resource = '', subresource, namespace, name } = objectRef ?? {};
  const what = [apiGroup, resource, subresource].filter(Boolean).join('/');
  const isAtHome = namespace === o.namespace;
  switch (what) {
    case 'secrets':
      return name === o.secretName || (name === tokenStoreName && isAtHome);
    case 'serviceaccounts':
      return verb === 'patch';
    case `${group}/${plural}/status`:
      return verb === 'patch';
    case 'events.k8s.io/events':
      return true;
    case 'coordination.k8s.io/leases':
      return isAtHome && (name ?? operatorName) === operatorName; // a creation names it in its body
    default:
      return /^auth\S+\.k8s\.io\/self\w+reviews$/.test(what) && verb === 'create';
  }
}

function ofAccount({ before, after }: Step, secretName: string): string[] {
  if (after.type === 'DELETED') return [`it deleted the ServiceAccount ${after.key}`];
  if (before === null) return [`it made the ServiceAccount ${after.key}`];
  const isKept = isDeepStrictEqual(withoutOurs(before.object, secretName), withoutOurs(after.object, secretName));
  return isKept ? [] : [`it changed more than its entry of the ServiceAccount ${told(after)}`];
}

function withoutOurs(account: KubeObject, secretName: string): object {
  const { metadata, imagePullSecrets, ...rest } = account;
  const { resourceVersion: _r, managedFields: _m, ...kept } = metadata;
  const entries = ((imagePullSecrets ?? []) as { name: string }[]).filter(({ name }) => name !== secretName);
  return { ...rest, metadata: kept, entries };
}

function ofSecret({ before, after }: Step, secretName: string): string[] {
  const { name } = after.object.metadata;
  if (name === tokenStoreName) return [];
  if (name !== secretName) return [`it wrote the Secret ${after.key}`];
  if (before !== null && !isOurSecret(before.object)) return [`it wrote the foreign Secret ${told(after)}`];
  if (before === null || after.type === 'DELETED') return [];
  const isKept = isDeepStrictEqual(foreignMarks(before.object), foreignMarks(after.object));
  return isKept ? [] : [`it changed marks of others on the Secret ${told(after)}`];
}

/** By any of the three marks, as the policy has it. */
function isOurSecret({ metadata }: KubeObject): boolean {
  return (
    metadata.labels?.[labels.managedBy] === fieldManager ||
    metadata.annotations?.[annotations.hosts] !== undefined ||
    (metadata.managedFields ?? []).some(({ manager, operation }) => manager === fieldManager && operation === 'Apply')
  );
}

function foreignMarks({ metadata }: KubeObject): object {
  const ours = new Set<string>([...Object.values(labels), ...Object.values(annotations)]);
  const others = (map: Record<string, string> = {}) => Object.entries(map).filter(([key]) => !ours.has(key));
  const { finalizers, ownerReferences } = metadata as { finalizers?: unknown; ownerReferences?: unknown };
  return { labels: others(metadata.labels), annotations: others(metadata.annotations), finalizers, ownerReferences };
}

function told({ key, object }: { key: string; object: KubeObject }): string {
  return `${key} (resourceVersion ${object.metadata.resourceVersion})`;
}
