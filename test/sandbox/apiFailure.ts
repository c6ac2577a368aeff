import type { ResourceType } from './resourceTypes.ts';

export interface Cause {
  reason?: string;
  message?: string;
  field?: string;
}

/** An answer that is no success, with its Status as a kube-apiserver words it. */
export class ApiFailure extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: object;
  readonly headers: Record<string, string>;
  readonly listMeta: object;

  constructor(o: {
    code: number;
    reason: string;
    message: string;
    details?: object;
    headers?: Record<string, string>;
    listMeta?: object;
  }) {
    super(o.message);
    this.code = o.code;
    this.reason = o.reason;
    this.details = o.details ?? {};
    this.headers = o.headers ?? {};
    this.listMeta = o.listMeta ?? {};
  }

  get status(): object {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: this.listMeta,
      status: 'Failure',
      message: this.message,
      ...(this.reason !== '' && { reason: this.reason }),
      ...(Object.keys(this.details).length > 0 || [404, 405, 422].includes(this.code) ? { details: this.details } : {}),
      code: this.code,
    };
  }
}

type Named = Pick<ResourceType, 'group' | 'plural' | 'kind'>;

/** `secrets`, `leases.coordination.k8s.io`. */
export function qualified({ group, plural }: Named): string {
  return group === '' ? plural : `${plural}.${group}`;
}

function detailsOf(type: Named, name: string): object {
  return { name, ...(type.group !== '' && { group: type.group }), kind: type.plural };
}

export function notFound(type: Named, name: string): ApiFailure {
  const message = `${qualified(type)} "${name}" not found`;
  return new ApiFailure({ code: 404, reason: 'NotFound', message, details: detailsOf(type, name) });
}

export function alreadyExists(type: Named, name: string): ApiFailure {
  const message = `${qualified(type)} "${name}" already exists`;
  return new ApiFailure({ code: 409, reason: 'AlreadyExists', message, details: detailsOf(type, name) });
}

export function conflict(type: Named, name: string, why: string): ApiFailure {
  const message = `Operation cannot be fulfilled on ${qualified(type)} "${name}": ${why}`;
  return new ApiFailure({ code: 409, reason: 'Conflict', message, details: detailsOf(type, name) });
}

export const MODIFIED = 'the object has been modified; please apply your changes to the latest version and try again';

export function forbidden(type: Named, name: string, why: string, causes?: Cause[]): ApiFailure {
  const message = `${qualified(type)}${name && ` "${name}"`} is forbidden: ${why}`;
  const details = { ...(name && { name }), ...(type.group && { group: type.group }), kind: type.plural };
  return new ApiFailure({
    code: 403,
    reason: 'Forbidden',
    message,
    details: { ...details, ...(causes && { causes }) },
  });
}

/** 422 with the causes that a validation gives. */
export function invalid(type: Named, name: string, causes: Required<Cause>[]): ApiFailure {
  const texts = [...new Set(causes.map(({ field, message }) => `${field}: ${message}`))];
  const text = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  const kind = type.group === '' ? type.kind : `${type.kind}.${type.group}`;
  const message = `${kind} "${name}" is invalid: ${text}`;
  const details = { name, ...(type.group !== '' && { group: type.group }), kind: type.kind, causes };
  return new ApiFailure({ code: 422, reason: 'Invalid', message, details });
}

export function cause(field: string, message: string, reason = 'FieldValueInvalid'): Required<Cause> {
  return { reason, message, field };
}

export function badRequest(message: string): ApiFailure {
  return new ApiFailure({ code: 400, reason: 'BadRequest', message });
}

/** What every failed JSON patch gets, a failed `test` and a missing path alike. */
export function patchFailed(): ApiFailure {
  const message = 'the server rejected our request due to an error in our request';
  return new ApiFailure({ code: 422, reason: 'Invalid', message });
}

export function expired(message = 'The resourceVersion for the provided watch is too old.'): ApiFailure {
  return new ApiFailure({ code: 410, reason: 'Expired', message });
}

export function unauthorized(): ApiFailure {
  return new ApiFailure({ code: 401, reason: 'Unauthorized', message: 'Unauthorized' });
}
