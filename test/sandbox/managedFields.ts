import { isDeepStrictEqual } from 'node:util';
import { ApiFailure, badRequest } from './apiFailure.ts';
import * as fields from './fieldSet.ts';
import { isMap, timestamp, type KubeObject, type ManagedFieldsEntry } from './kubeObject.ts';
import type { ResourceType } from './resourceTypes.ts';

/** Who writes, and how it is entered. */
export interface Writer {
  readonly manager: string;
  readonly now: number; // ms
  readonly subresource?: string;
}

interface Owner {
  readonly manager: string;
  readonly operation: ManagedFieldsEntry['operation'];
  readonly apiVersion: string;
  readonly subresource?: string;
  readonly time?: string;
  readonly set: fields.FieldSet;
}

const BEFORE_FIRST_APPLY = 'before-first-apply';
const NEVER_OWNED = [
  fields.fieldPath('apiVersion'),
  fields.fieldPath('kind'),
  fields.fieldPath('metadata'),
  ...[
    'name',
    'generateName',
    'namespace',
    'creationTimestamp',
    'selfLink',
    'uid',
    'generation',
    'managedFields',
    'resourceVersion',
  ].map((name) => fields.fieldPath('metadata', name)),
];

/**
 * The object of an Update with its managedFields. An object without any is not tracked before the first apply, except when
 * it is created; `[{}]` in the request takes all of them away.
 */
export function trackUpdate(live: KubeObject | null, next: KubeObject, type: ResourceType, writer: Writer): KubeObject {
  const given = writer.subresource === undefined ? next.metadata.managedFields : undefined;
  const isReset = given?.length === 1 && Object.keys(given[0] ?? {}).length === 0;
  let owners = isReset ? [] : decode(given ?? []);
  if (owners.length === 0 && !isReset) owners = decode(live?.metadata.managedFields ?? []);
  if (owners.length === 0 && live) return withManagedFields(next, []);
  const comparison = compareObjects(live, next, type);
  const changed = owned(fields.union(comparison.added, comparison.modified));
  const lost = fields.union(comparison.removed, changed);
  const mine = identity(next.apiVersion, 'Update', writer);
  const former = owners.find((owner) => isSame(owner, mine));
  const others = owners.filter((owner) => owner !== former).map((owner) => less(owner, lost));
  // What it owned beside metadata itself: stripping applies to what a write adds, so an emptied entry stays.
  const set = fields.union(fields.minus(former?.set ?? new Set(), comparison.removed), changed);
  return withManagedFields(next, encode([...others, { ...mine, ...timeOf(former, set, writer), set }]));
}

/** The object after a server-side apply. Throws 409 with a cause for each field that another manager owns otherwise. */
export function applyConfiguration(
  live: KubeObject | null,
  config: KubeObject,
  type: ResourceType,
  writer: Writer & { force: boolean },
): KubeObject {
  if ((config.metadata.managedFields ?? []).length > 0) throw badRequest('metadata.managedFields must be nil');
  checkDeclared(config, type);
  let owners = decode(live?.metadata.managedFields ?? []);
  if (live && owners.length === 0) owners = [firstOwner(live, type, writer)];
  const mine = identity(config.apiVersion, 'Apply', writer);
  const former = owners.find((owner) => isSame(owner, mine));
  let others = owners.filter((owner) => owner !== former);
  const set = owned(fields.fieldsOf(withoutManagedFields(config), type.shape));
  const { resourceVersion, uid } = config.metadata;
  let next = fields.merge(live ?? {}, withoutManagedFields(config), type.shape) as KubeObject;
  const given = fields.minus(former?.set ?? new Set(), fields.union(set, ...others.map((other) => other.set)));
  if (given.size > 0) next = fields.without(next, type.shape, given) as KubeObject;
  const comparison = compareObjects(live, next, type);
  const changed = fields.union(comparison.added, comparison.modified);
  const conflicts = others.filter((other) => fields.common(other.set, changed).size > 0);
  if (conflicts.length > 0 && !writer.force) throw conflictOf(conflicts, changed);
  others = others.map((owner) => less(owner, fields.union(changed, comparison.removed)));
  const entry = { ...mine, ...timeOf(former, set, writer), set };
  const result = withManagedFields(next, encode([...others, entry]));
  // Told apart from the live ones by the caller: a wrong one is a conflict.
  return {
    ...result,
    metadata: { ...result.metadata, ...(resourceVersion && { resourceVersion }), ...(uid && { uid }) },
  };
}

function checkDeclared(config: KubeObject, { schema, shape }: ResourceType): void {
  if (!schema) return;
  const walk = (value: unknown, at: typeof shape, path: string): void => {
    if (!isMap(value) || at.atomic === true) return;
    for (const [name, member] of Object.entries(value)) {
      if (at.closed === true && !Object.hasOwn(at.fields ?? {}, name)) {
        const message = `failed to create typed patch object (${config.metadata.namespace ?? ''}/${config.metadata.name}; ${config.apiVersion}, Kind=${config.kind}): ${path}.${name}: field not declared in schema`;
        throw new ApiFailure({ code: 500, reason: '', message });
      }
      walk(member, fields.memberShape(at, name), `${path}.${name}`);
    }
  };
  const { spec, status } = config;
  walk(spec, fields.memberShape(shape, 'spec'), '.spec');
  walk(status, fields.memberShape(shape, 'status'), '.status');
}

function firstOwner(live: KubeObject, type: ResourceType, writer: Writer): Owner {
  const set = owned(compareObjects(null, live, type).added);
  const { apiVersion } = live;
  return { manager: BEFORE_FIRST_APPLY, operation: 'Update', apiVersion, time: timestamp(writer.now), set };
}

function compareObjects(live: KubeObject | null, next: KubeObject, { shape }: ResourceType): fields.Comparison {
  return fields.compare(live ? withoutManagedFields(live) : {}, withoutManagedFields(next), shape);
}

function withoutManagedFields(object: KubeObject): KubeObject {
  const { managedFields: _, resourceVersion: _v, ...metadata } = object.metadata;
  return { ...object, metadata };
}

function withManagedFields(object: KubeObject, entries: ManagedFieldsEntry[]): KubeObject {
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata: { ...metadata, ...(entries.length > 0 && { managedFields: entries }) } };
}

function owned(set: fields.FieldSet): fields.FieldSet {
  const result = new Set(set);
  for (const path of NEVER_OWNED) result.delete(path);
  return result;
}

function identity(apiVersion: string, operation: Owner['operation'], { manager, subresource }: Writer) {
  return { manager, operation, apiVersion, ...(subresource !== undefined && { subresource }) };
}

function isSame(owner: Omit<Owner, 'set'>, other: Omit<Owner, 'set'>): boolean {
  return (
    owner.manager === other.manager &&
    owner.operation === other.operation &&
    owner.apiVersion === other.apiVersion &&
    owner.subresource === other.subresource
  );
}

function less(owner: Owner, lost: fields.FieldSet): Owner {
  return { ...owner, set: fields.minus(owner.set, lost) };
}

function timeOf(former: Owner | undefined, set: fields.FieldSet, { now }: Writer): { time: string } {
  const isSameSet = former !== undefined && isDeepStrictEqual(former.set, set);
  return { time: isSameSet && former.time ? former.time : timestamp(now) };
}

function decode(entries: readonly ManagedFieldsEntry[]): Owner[] {
  return entries.map(({ manager, operation, apiVersion, subresource, time, fieldsV1 }) => ({
    manager,
    operation,
    apiVersion,
    ...(subresource && { subresource }),
    ...(time && { time }),
    set: fields.fromFieldsV1(fieldsV1 ?? {}),
  }));
}

function encode(owners: readonly Owner[]): ManagedFieldsEntry[] {
  return owners
    .filter(({ set }) => set.size > 0)
    .sort((a, b) => (order(a) < order(b) ? -1 : 1))
    .map(({ manager, operation, apiVersion, subresource, time, set }) => ({
      manager,
      operation,
      apiVersion,
      ...(time && { time }),
      fieldsType: 'FieldsV1' as const,
      fieldsV1: fields.toFieldsV1(set),
      ...(subresource && { subresource }),
    }));
}

function order({ operation, time, manager, apiVersion, subresource }: Owner): string {
  return [operation, time, manager, apiVersion, subresource].join('\u0000');
}

function conflictOf(owners: readonly Owner[], changed: fields.FieldSet): ApiFailure {
  const causes = owners.flatMap((owner) =>
    [...fields.common(owner.set, changed)].sort().map((path) => ({
      reason: 'FieldManagerConflict',
      message: `conflict with ${nameOf(owner)}`,
      field: fields.readable(path),
    })),
  );
  const [first] = causes;
  const message =
    causes.length === 1
      ? `Apply failed with 1 conflict: ${first?.message}: ${first?.field}`
      : `Apply failed with ${causes.length} conflicts: ${listed(causes)}`;
  return new ApiFailure({ code: 409, reason: 'Conflict', message, details: { causes } });
}

function listed(causes: readonly { message: string; field: string }[]): string {
  const byOwner = Map.groupBy(causes, ({ message }) => message);
  return [...byOwner]
    .map(
      ([message, found]) =>
        `${message.replace('conflict', 'conflicts')}:\n${found.map(({ field }) => `- ${field}`).join('\n')}`,
    )
    .join('\n');
}

function nameOf({ manager, operation, apiVersion, subresource }: Owner): string {
  const quoted = JSON.stringify(manager);
  const sub = subresource ? ` with subresource ${JSON.stringify(subresource)}` : '';
  return operation === 'Apply' ? `${quoted}${sub}` : `${quoted}${sub} using ${apiVersion}`;
}
