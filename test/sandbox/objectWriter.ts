import { isDeepStrictEqual } from 'node:util';
import {
  alreadyExists,
  ApiFailure,
  badRequest,
  conflict,
  forbidden,
  invalid,
  cause,
  MODIFIED,
  notFound,
  type Cause,
} from './apiFailure.ts';
import { isMap, stringOf, timestamp, type KubeObject } from './kubeObject.ts';
import { applyConfiguration, trackUpdate } from './managedFields.ts';
import { normalised, validate } from './objectRules.ts';
import type { ObjectStore } from './objectStore.ts';
import { namespaceType, type ResourceType } from './resourceTypes.ts';
import { prunedAndDefaulted, unknownFields } from './structuralSchema.ts';

export interface User {
  readonly name: string;
  readonly groups: readonly string[];
}

/** What an admission hook sees. As for a policy, `object` is null on DELETE and `oldObject` on CREATE. */
export interface AdmissionRequest {
  readonly operation: 'CREATE' | 'UPDATE' | 'DELETE';
  readonly user: User;
  readonly resource: string; // plural
  readonly group: string;
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
  readonly object: KubeObject | null;
  readonly oldObject: KubeObject | null;
  readonly dryRun: boolean;
}

/** null: admitted. */
export type Admission = (request: AdmissionRequest) => { code?: number; reason?: string; message: string } | null;

export interface WriteContext {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly user: User;
  readonly manager: string;
  readonly subresource: string;
  readonly dryRun: boolean;
  readonly strict: boolean;
}

export interface Written {
  readonly code: 200 | 201;
  readonly object: KubeObject;
}

export interface WriterHooks {
  readonly admission: Admission;
  /** Stands for the CEL rules of a CustomResourceDefinition. */
  readonly validateCustom: (object: KubeObject, type: ResourceType) => readonly { field: string; message: string }[];
  readonly now: () => number;
}

/** Writes as a kube-apiserver does them: decode, managed fields, preconditions, validation, admission, storage; in this order. */
export class ObjectWriter {
  readonly #store: ObjectStore;
  readonly #hooks: WriterHooks;

  constructor(store: ObjectStore, hooks: WriterHooks) {
    this.#store = store;
    this.#hooks = hooks;
  }

  create(body: unknown, context: WriteContext): Written {
    const object = this.#decode(body, context);
    this.#needNamespace(context);
    const { type, namespace, name } = context;
    if (this.#store.get(type, namespace, name)) throw alreadyExists(type, name);
    if (object.metadata.resourceVersion) {
      throw new ApiFailure({
        code: 500,
        reason: 'Unknown',
        message: 'resourceVersion should not be set on objects to be created',
      });
    }
    const tracked = trackUpdate(null, fresh(object, type), type, this.#writer(context));
    return { code: 201, object: this.#storeNew(tracked, context) };
  }

  apply(body: unknown, context: WriteContext, force: boolean): Written {
    const { type, namespace, name } = context;
    const config = this.#decode(body, context, false);
    const live = this.#store.get(type, namespace, name);
    if (!live) {
      if (context.subresource !== '') throw notFound(type, name);
      this.#needNamespace(context);
      const { uid } = config.metadata;
      if (uid !== undefined) {
        throw conflict(
          type,
          name,
          `uid mismatch: the provided object specified uid ${uid}, and no existing object was found`,
        );
      }
    }
    const writer = { ...this.#writer(context), force };
    const next = normalised(applyConfiguration(live, config, type, writer), type);
    if (live) return { code: 200, object: this.#storeChanged(live, this.#defaulted(next, type), context) };
    const { resourceVersion: _, ...metadata } = next.metadata;
    return { code: 201, object: this.#storeNew(fresh(this.#defaulted({ ...next, metadata }, type), type), context) };
  }

  /** PUT, or what a patch made of the live object. */
  update(context: WriteContext, change: (live: KubeObject) => unknown, o: { checkUid?: boolean } = {}): Written {
    const { type, namespace, name } = context;
    const live = this.#store.get(type, namespace, name);
    if (!live) throw notFound(type, name);
    const body = this.#decode(change(live), context);
    if (o.checkUid === true && body.metadata.uid && body.metadata.uid !== live.metadata.uid) {
      throw conflict(type, name, uidMismatch(body.metadata.uid, live));
    }
    const next = splitStatus(live, body, context);
    const tracked = trackUpdate(live, next, type, this.#writer(context));
    return { code: 200, object: this.#storeChanged(live, tracked, context) };
  }

  /** The object where it stays for its finalizers, null where it is gone. */
  delete(context: WriteContext, preconditions: { uid?: unknown; resourceVersion?: unknown }): KubeObject | null {
    const { type, namespace, name } = context;
    const live = this.#store.get(type, namespace, name);
    if (!live) throw notFound(type, name);
    const { uid, resourceVersion } = preconditions;
    if (uid !== undefined && uid !== live.metadata.uid) {
      const why = `the UID in the precondition (${stringOf(uid)}) does not match the UID in record (${live.metadata.uid}). The object might have been deleted and then recreated`;
      throw conflict(asKind(type), name, why);
    }
    if (resourceVersion !== undefined && resourceVersion !== live.metadata.resourceVersion) {
      const why = `the ResourceVersion in the precondition (${stringOf(resourceVersion)}) does not match the ResourceVersion in record (${live.metadata.resourceVersion}). The object might have been modified`;
      throw conflict(asKind(type), name, why);
    }
    this.#admit('DELETE', null, live, context);
    if (context.dryRun) return null;
    if ((live.metadata.finalizers ?? []).length === 0) {
      this.#store.delete(type, live);
      return null;
    }
    if (live.metadata.deletionTimestamp) return live;
    const metadata = {
      ...live.metadata,
      deletionTimestamp: timestamp(this.#hooks.now()),
      deletionGracePeriodSeconds: 0,
    };
    return this.#store.update(type, { ...live, metadata }, live);
  }

  #writer({ manager, subresource }: WriteContext) {
    return { manager, now: this.#hooks.now(), ...(subresource !== '' && { subresource }) };
  }

  #decode(body: unknown, { type, namespace, name, strict }: WriteContext, full = true): KubeObject {
    if (!isMap(body)) throw badRequest('the object provided is unrecognized');
    const apiVersion = type.group === '' ? type.version : `${type.group}/${type.version}`;
    for (const [field, wanted] of [
      ['kind', type.kind],
      ['apiVersion', apiVersion],
    ] as const) {
      if (full && body[field] === undefined) continue;
      if (body[field] !== wanted) {
        throw badRequest(`${field} "${String(body[field])}" does not match the expected "${wanted}"`);
      }
    }
    const metadata = isMap(body['metadata']) ? body['metadata'] : {};
    if (metadata['name'] !== undefined && metadata['name'] !== name) {
      throw badRequest(
        `the name of the object (${JSON.stringify(metadata['name'])}) does not match the name on the URL (${name})`,
      );
    }
    if (metadata['namespace'] !== undefined && metadata['namespace'] !== namespace && type.namespaced) {
      throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
    }
    const object = {
      ...body,
      apiVersion,
      kind: type.kind,
      metadata: { ...metadata, name, ...(namespace !== undefined && { namespace }) },
    } as KubeObject;
    if (!type.schema) return full ? normalised(object, type) : object;
    if (strict) this.#checkKnown(object, type);
    return full ? normalised(this.#defaulted(object, type), type) : object;
  }

  #checkKnown(object: KubeObject, { schema = {} }: ResourceType): void {
    const { apiVersion: _a, kind: _k, metadata: _m, ...rest } = object;
    const unknown = unknownFields(rest, schema);
    if (unknown.length === 0) return;
    const fields = unknown.map((path) => `unknown field "${path.slice(1)}"`).join(', ');
    throw badRequest(
      `${object.kind} in version "${object.apiVersion.split('/')[1]}" cannot be handled as a ${object.kind}: strict decoding error: ${fields}`,
    );
  }

  #defaulted(object: KubeObject, { schema }: ResourceType): KubeObject {
    if (!schema) return object;
    const { apiVersion, kind, metadata, ...rest } = object;
    return { apiVersion, kind, metadata, ...(prunedAndDefaulted(rest, schema) as object) };
  }

  #needNamespace({ type, namespace, name }: WriteContext): void {
    if (!type.namespaced || namespace === undefined) return;
    const found = this.#store.get(namespaceType, undefined, namespace);
    if (!found) throw notFound(namespaceType, namespace);
    if (!found.metadata.deletionTimestamp) return;
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
    const causes: Cause[] = [
      {
        reason: 'NamespaceTerminating',
        message: `namespace ${namespace} is being terminated`,
        field: 'metadata.namespace',
      },
    ];
    throw forbidden(type, name, why, causes);
  }

  #storeNew(given: KubeObject, context: WriteContext): KubeObject {
    const { type } = context;
    const object = type === namespaceType ? { ...given, ...ACTIVE } : given;
    this.#validate(object, null, context);
    this.#admit('CREATE', object, null, context);
    if (context.dryRun) {
      const creationTimestamp = timestamp(this.#hooks.now());
      return { ...object, metadata: { ...object.metadata, uid: crypto.randomUUID(), creationTimestamp } };
    }
    return this.#store.create(type, object);
  }

  #storeChanged(live: KubeObject, body: KubeObject, context: WriteContext): KubeObject {
    const { type, name } = context;
    const { resourceVersion } = body.metadata;
    if (resourceVersion && resourceVersion !== live.metadata.resourceVersion) throw conflict(type, name, MODIFIED);
    const next = withLiveIdentity(live, body, type);
    this.#validate(next, live, context);
    this.#admit('UPDATE', next, live, context);
    if (isSame(live, next)) return live;
    if (context.dryRun) return next;
    if (next.metadata.deletionTimestamp && (next.metadata.finalizers ?? []).length === 0) {
      return this.#store.delete(type, next);
    }
    return this.#store.update(type, next, live);
  }

  #validate(object: KubeObject, live: KubeObject | null, { type, name, subresource }: WriteContext): void {
    validate(object, live, type);
    if (!type.schema || subresource !== '') return;
    const errors = this.#hooks.validateCustom(object, type);
    if (errors.length === 0) return;
    throw invalid(
      type,
      name,
      errors.map(({ field, message }) => cause(field, `Invalid value: ${message}`)),
    );
  }

  #admit(
    operation: AdmissionRequest['operation'],
    object: KubeObject | null,
    oldObject: KubeObject | null,
    context: WriteContext,
  ): void {
    const { type, name, namespace = '', user, subresource, dryRun } = context;
    const { plural: resource, group } = type;
    const request = { operation, user, resource, group, subresource, namespace, name, object, oldObject, dryRun };
    const denial = this.#hooks.admission(request);
    if (!denial) return;
    const { code = 422, reason = 'Invalid', message } = denial;
    const plural = group === '' ? resource : `${resource}.${group}`;
    throw new ApiFailure({
      code,
      reason,
      message: `${plural} "${name}" is forbidden: ${message}`,
      details: { name, ...(group && { group }), kind: resource, causes: [{ message }] },
    });
  }
}

// What a new namespace gets without an owner.
const ACTIVE = { spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } };

function withNameLabel({ metadata, ...namespace }: KubeObject): KubeObject {
  const labels = { ...metadata.labels, 'kubernetes.io/metadata.name': metadata.name };
  return { ...namespace, metadata: { ...metadata, labels } };
}

function uidMismatch(uid: string, live: KubeObject): string {
  return `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${live.metadata.uid}`;
}

// Preconditions of a deletion are told with the kind where others have the resource.
function asKind({ group, kind }: ResourceType): Pick<ResourceType, 'group' | 'kind' | 'plural'> {
  return { group, kind, plural: kind };
}

function hasGeneration({ schema, subresources }: ResourceType): boolean {
  return schema !== undefined || subresources.has('status');
}

function fresh(object: KubeObject, type: ResourceType): KubeObject {
  const { deletionTimestamp: _, generation: _g, ...metadata } = object.metadata;
  if (type === namespaceType) return withNameLabel({ ...object, metadata });
  const { status, ...rest } = object;
  const keepsStatus = !type.subresources.has('status') && status !== undefined;
  const base = { ...rest, ...(keepsStatus && { status }) } as KubeObject;
  return { ...base, metadata: { ...metadata, ...(hasGeneration(type) && { generation: 1 }) } };
}

/** The main resource leaves the status alone, the status subresource all else. */
function splitStatus(live: KubeObject, body: KubeObject, { type, subresource }: WriteContext): KubeObject {
  if (!type.subresources.has('status')) return body;
  if (subresource === 'status') {
    // Nothing else of its metadata counts, not even a wrong uid: run on 1.36.3.
    const { resourceVersion } = body.metadata;
    const { status: _, ...rest } = live;
    const metadata = { ...live.metadata, resourceVersion } as KubeObject['metadata'];
    return { ...rest, ...(body['status'] !== undefined && { status: body['status'] }), metadata };
  }
  const { status: _, ...rest } = body;
  return { ...rest, ...(live['status'] !== undefined && { status: live['status'] }) };
}

function withLiveIdentity(live: KubeObject, body: KubeObject, type: ResourceType): KubeObject {
  const { creationTimestamp, deletionTimestamp, generation = 1, resourceVersion } = live.metadata;
  const { generation: _, deletionTimestamp: _d, ...metadata } = body.metadata;
  const isNewSpec = hasGeneration(type) && !isDeepStrictEqual(bodyOf(live), bodyOf(body));
  return {
    ...body,
    metadata: {
      ...metadata,
      uid: metadata.uid ?? live.metadata.uid ?? '',
      resourceVersion: resourceVersion ?? '',
      ...(creationTimestamp && { creationTimestamp }),
      ...(deletionTimestamp && { deletionTimestamp }),
      ...(hasGeneration(type) && { generation: generation + (isNewSpec ? 1 : 0) }),
    },
  };
}

function bodyOf(object: KubeObject): object {
  const { metadata: _, status: _s, ...rest } = object;
  return rest;
}

// A write that changes nothing but the times of managedFields is none.
function isSame(live: KubeObject, next: KubeObject): boolean {
  const timeless = ({ metadata, ...rest }: KubeObject): object => ({
    ...rest,
    metadata: { ...metadata, managedFields: (metadata.managedFields ?? []).map((entry) => ({ ...entry, time: '' })) },
  });
  return isDeepStrictEqual(timeless(live), timeless(next));
}
