// Objects as they arrive from the API server, reduced to what the operator looks at: stores stay small, and what is
// not needed is not kept, data of Secrets least of all.
import { annotations, fieldManager, labels } from '../api/groupVersion.ts';
import type { ObservedSecret, ObservedServiceAccount } from '../core/diffNamespace.ts';
import { boundedPatterns, type NamePatterns } from '../core/glob.ts';
import type { NamespaceView } from '../core/namespaceSelection.ts';
import type { KubeObject, ManagedFieldsEntry, ObjectMeta } from '../kube/kubeObject.ts';

interface Identified {
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
}

// Every stored object has all three; the types say optional for those that are about to be made.
function identify({ name, uid = '', resourceVersion = '' }: ObjectMeta): Identified {
  return { name, uid, resourceVersion };
}

function createdAt(metadata: ObjectMeta): number {
  return Date.parse(metadata.creationTimestamp ?? '');
}

export interface NamespaceObject extends NamespaceView, Identified {
  readonly createdAt: number; // ms, on the API server's clock
}

export function reduceNamespace({ metadata }: KubeObject): NamespaceObject {
  return {
    ...identify(metadata),
    createdAt: createdAt(metadata),
    labels: metadata.labels ?? {},
    ignored: isIgnored(metadata),
    terminating: metadata.deletionTimestamp !== undefined,
  };
}

export interface ServiceAccountObject extends ObservedServiceAccount, Identified {
  readonly namespace: string;
  /** Who last changed the list, where the API server keeps books about it. */
  readonly listManager: string | null;
}

export function reduceServiceAccount(object: KubeObject): ServiceAccountObject {
  const { metadata } = object;
  const list = (object as { imagePullSecrets?: readonly { name?: string }[] }).imagePullSecrets ?? [];
  const ownedAt = (metadata.managedFields ?? []).findIndex((entry) => isOurs(entry) && ownsList(entry));
  const listOwners = (metadata.managedFields ?? []).filter((entry) => ownsList(entry) && !isOurs(entry));
  return {
    ...identify(metadata),
    namespace: metadata.namespace ?? '',
    entries: list.map((entry) => entry.name ?? ''),
    isIgnored: isIgnored(metadata),
    ownedAt: ownedAt < 0 ? null : ownedAt,
    listManager: latest(listOwners)?.manager ?? null,
  };
}

export interface SecretObject extends ObservedSecret {
  readonly namespace: string;
  /** Who else has written to it last; for messages. */
  readonly otherManager: string | null;
}

/** From the metadata alone. "Unchanged" is read off managedFields: a foreign edit takes the ownership away. */
export function reduceSecret({ metadata }: KubeObject): SecretObject {
  const { annotations: itsAnnotations = {}, managedFields: entries = [] } = metadata;
  const applied = entries.find((entry) => isOurs(entry) && entry.operation === 'Apply');
  const mayBeImmutable = isMadeImmutable(entries);
  return {
    ...identify(metadata),
    namespace: metadata.namespace ?? '',
    isOurs: hasMark(metadata) || applied !== undefined,
    isIntact: !mayBeImmutable && applied !== undefined && ownsAll(applied),
    ...(mayBeImmutable && { mayBeImmutable }),
    hosts: hostHashes(readJson(itsAnnotations[annotations.hosts])),
    patterns: patternsOf(readJson(itsAnnotations[annotations.serviceAccounts])),
    otherManager: latest(entries.filter((entry) => !isOurs(entry)))?.manager ?? null,
  };
}

// Where we say it too, we say that it is not: see applyWrites.
function isMadeImmutable(entries: readonly ManagedFieldsEntry[]): boolean {
  const setters = entries.filter(setsImmutable);
  return setters.length > 0 && !setters.some(isOurs);
}

const OWNED_WHILE_INTACT: readonly (readonly string[])[] = [
  ['f:data', 'f:.dockerconfigjson'],
  ['f:metadata', 'f:labels', `f:${labels.managedBy}`],
  ['f:metadata', 'f:labels', `f:${labels.excludeFromBackup}`],
  ['f:metadata', 'f:annotations', `f:${annotations.hosts}`],
  ['f:metadata', 'f:annotations', `f:${annotations.serviceAccounts}`],
];

function hasMark({ labels: itsLabels, annotations: itsAnnotations }: ObjectMeta): boolean {
  return itsLabels?.[labels.managedBy] === fieldManager || itsAnnotations?.[annotations.hosts] !== undefined;
}

function ownsAll(applied: ManagedFieldsEntry): boolean {
  return OWNED_WHILE_INTACT.every((path) => ownsField(applied, path));
}

/** A custom resource: its spec stays unread until `resolveResource`. */
export interface ResourceObject extends Identified {
  readonly generation: number;
  readonly refreshRequestedAt: string | null;
  readonly isDeleting: boolean;
  readonly spec: unknown;
  readonly status: unknown;
}

export function reduceResource(object: KubeObject): ResourceObject {
  const { metadata, spec, status } = object as KubeObject & { spec?: unknown; status?: unknown };
  return {
    ...identify(metadata),
    generation: metadata.generation ?? 0,
    refreshRequestedAt: metadata.annotations?.[annotations.refreshRequestedAt] ?? null,
    isDeleting: metadata.deletionTimestamp !== undefined,
    spec,
    status,
  };
}

export interface CrdObject extends Identified {
  readonly isTerminating: boolean;
  readonly createdAt: number; // ms, on the API server's clock
}

export function reduceCrd({ metadata }: KubeObject): CrdObject {
  return {
    ...identify(metadata),
    isTerminating: metadata.deletionTimestamp !== undefined,
    createdAt: createdAt(metadata),
  };
}

/** A Secret with AWS keys, in the operator's own namespace. */
export interface CredentialSecret extends Identified {
  readonly data: Readonly<Record<string, string>>; // base64
}

export function reduceCredentialSecret(object: KubeObject): CredentialSecret {
  const { metadata, data } = object as KubeObject & { data?: Record<string, string> };
  return { ...identify(metadata), data: data ?? {} };
}

function isIgnored(metadata: KubeObject['metadata']): boolean {
  return metadata.annotations?.[annotations.ignore] === 'true';
}

function isOurs(entry: ManagedFieldsEntry): boolean {
  return entry.manager === fieldManager;
}

function ownsList(entry: ManagedFieldsEntry): boolean {
  return ownsField(entry, ['f:imagePullSecrets']);
}

function setsImmutable(entry: ManagedFieldsEntry): boolean {
  return ownsField(entry, ['f:immutable']);
}

function ownsField(entry: ManagedFieldsEntry, path: readonly string[]): boolean {
  let fields: unknown = entry.fieldsV1;
  for (const step of path) {
    if (typeof fields !== 'object' || fields === null || !Object.hasOwn(fields, step)) return false;
    fields = (fields as Record<string, unknown>)[step];
  }
  return true;
}

function latest(entries: readonly ManagedFieldsEntry[]): ManagedFieldsEntry | undefined {
  return entries.toSorted((a, b) => (a.time ?? '').localeCompare(b.time ?? '')).at(-1);
}

function readJson(text: string | undefined): unknown {
  if (text === undefined) return null;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

function hostHashes(value: unknown): ReadonlyMap<string, string> | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const entries = Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return new Map(entries);
}

function patternsOf(value: unknown): NamePatterns[] {
  if (!Array.isArray(value)) return [];
  const patterns = value.flatMap((item: unknown) => {
    const { names, exclude } = (item ?? {}) as { names?: unknown; exclude?: unknown };
    return isStrings(names) && isStrings(exclude) ? [{ names, exclude }] : [];
  });
  return boundedPatterns(patterns);
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
