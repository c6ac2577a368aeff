import { badRequest, cause, invalid, type Cause } from './apiFailure.ts';
import { isMap, listOf, mapOf, stringOf, type KubeObject } from './kubeObject.ts';
import { crdType, eventType, namespaceType, secretType, type ResourceType } from './resourceTypes.ts';
import { violations } from './structuralSchema.ts';

const LARGEST_SECRET = 2 ** 20; // bytes of decoded data
const NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
const NAMESPACE_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** The object as the API server would keep it: empty maps and lists of built-in fields left out, type and data of Secrets filled in. */
export function normalised(object: KubeObject, type: ResourceType): KubeObject {
  const { metadata, ...rest } = object;
  let result: KubeObject = { ...rest, metadata: withoutEmpty(metadata) as KubeObject['metadata'] };
  if (type === secretType) result = normalisedSecret(result);
  if (type.schema) return result;
  return withoutEmpty(result) as KubeObject;
}

function withoutEmpty(map: object): object {
  return Object.fromEntries(
    Object.entries(map).filter(([, value]) => {
      if (value === null || value === undefined) return false;
      if (Array.isArray(value)) return value.length > 0;
      return !isMap(value) || Object.keys(value).length > 0;
    }),
  );
}

function normalisedSecret({ stringData, ...secret }: KubeObject): KubeObject {
  const written = Object.entries(mapOf(stringData)).map(([key, value]) => [
    key,
    Buffer.from(String(value)).toString('base64'),
  ]);
  const data = Object.fromEntries([...Object.entries(mapOf(secret['data'])), ...written]) as object;
  for (const value of Object.values(data)) {
    if (typeof value !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(value) || value.length % 4 !== 0) {
      throw badRequest('Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0');
    }
  }
  return { ...secret, data, type: secret['type'] ?? 'Opaque' };
}

/** 422 where the object breaks a rule of its type. */
export function validate(object: KubeObject, live: KubeObject | null, type: ResourceType): void {
  const causes: Required<Cause>[] = [...metadataCauses(object, live, type)];
  if (type === secretType) causes.push(...secretCauses(object, live));
  if (type === eventType) causes.push(...eventCauses(object, live));
  if (type.schema) {
    const { apiVersion: _a, kind: _k, metadata: _m, ...rest } = object;
    const found = violations(rest, type.schema, '');
    causes.push(
      ...found.map((one) => ({ ...one, field: noDot(one.field), message: one.message.replaceAll(' .', ' ') })),
    );
    if (found.some(({ reason }) => reason !== 'FieldValueDuplicate')) causes.push(cause('<nil>', RULES_NOT_CHECKED));
  }
  // Events are validated as those of the core group.
  const named = type === eventType ? { ...type, group: '' } : type;
  if (causes.length > 0) throw invalid(named, object.metadata.name, causes);
}

const RULES_NOT_CHECKED =
  'Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation';

function noDot(path: string): string {
  return path.startsWith('.') ? path.slice(1) : path;
}

function metadataCauses(object: KubeObject, live: KubeObject | null, type: ResourceType): Required<Cause>[] {
  const { metadata } = object;
  if (live) {
    if (metadata.uid !== undefined && metadata.uid !== live.metadata.uid) {
      // Twice, as the real one says it.
      const wrong = cause('metadata.uid', `Invalid value: ${JSON.stringify(metadata.uid)}: field is immutable`);
      return [wrong, wrong];
    }
    return [];
  }
  const pattern = type === namespaceType ? NAMESPACE_NAME : NAME;
  if (metadata.name === '' || metadata.name === undefined) {
    return [cause('metadata.name', 'Required value: name or generateName is required', 'FieldValueRequired')];
  }
  if (type.group === 'rbac.authorization.k8s.io' || type === crdType) return [];
  if (pattern.test(metadata.name) && metadata.name.length <= 253) return [];
  const message = `Invalid value: ${JSON.stringify(metadata.name)}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character`;
  return [cause('metadata.name', message)];
}

function secretCauses(secret: KubeObject, live: KubeObject | null): Required<Cause>[] {
  const data = mapOf(secret['data']) as Record<string, string>;
  const causes: Required<Cause>[] = [];
  if (live) {
    const type = live['type'];
    if (secret['type'] !== type) {
      causes.push(cause('type', `Invalid value: ${JSON.stringify(secret['type'])}: field is immutable`));
    }
    causes.push(...immutableCauses(secret, live));
  }
  let size = 0;
  for (const [key, value] of Object.entries(data)) {
    size += Buffer.byteLength(value, 'base64');
    if (!/^[-._a-zA-Z0-9]{1,253}$/.test(key)) {
      causes.push(
        cause(
          `data[${key}]`,
          `Invalid value: ${JSON.stringify(key)}: a valid config key must consist of alphanumeric characters, '-', '_' or '.'`,
        ),
      );
    }
  }
  if (size > LARGEST_SECRET) {
    causes.push(cause('data', `Too long: may not be more than ${LARGEST_SECRET} bytes`, 'FieldValueTooLong'));
  }
  return [...causes, ...typeCauses(secret, data)];
}

function immutableCauses(secret: KubeObject, live: KubeObject): Required<Cause>[] {
  if (live['immutable'] !== true) return [];
  const message = 'Forbidden: field is immutable when `immutable` is set';
  const causes: Required<Cause>[] = [];
  if (secret['immutable'] !== true) causes.push(cause('immutable', message, 'FieldValueForbidden'));
  const [before, after] = [JSON.stringify(live['data'] ?? {}), JSON.stringify(secret['data'] ?? {})];
  if (before !== after) causes.push(cause('data', message, 'FieldValueForbidden'));
  return causes;
}

const KEYS_OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  'kubernetes.io/dockerconfigjson': ['.dockerconfigjson'],
  'kubernetes.io/dockercfg': ['.dockercfg'],
  'kubernetes.io/tls': ['tls.crt', 'tls.key'],
  'kubernetes.io/ssh-auth': ['ssh-privatekey'],
};

function typeCauses(secret: KubeObject, data: Record<string, string>): Required<Cause>[] {
  const type = String(secret['type']);
  if (type === 'kubernetes.io/service-account-token') {
    const name = secret.metadata.annotations?.['kubernetes.io/service-account.name'];
    return name
      ? []
      : [cause('metadata.annotations[kubernetes.io/service-account.name]', 'Required value', 'FieldValueRequired')];
  }
  return (KEYS_OF_TYPE[type] ?? []).flatMap((key) => {
    const value = Object.hasOwn(data, key) ? data[key] : undefined;
    if (value === undefined) return [cause(`data[${key}]`, 'Required value', 'FieldValueRequired')];
    if (type.includes('docker') && !isJsonObject(Buffer.from(value, 'base64').toString())) {
      return [cause(`data[${key}]`, 'Invalid value: "<secret contents redacted>": invalid json')];
    }
    return [];
  });
}

function isJsonObject(text: string): boolean {
  try {
    return isMap(JSON.parse(text));
  } catch {
    return false;
  }
}

const CLUSTER_EVENT_NAMESPACES = ['', 'default', 'kube-system'];

function eventCauses(event: KubeObject, live: KubeObject | null): Required<Cause>[] {
  const causes: Required<Cause>[] = [];
  if (live) {
    for (const field of ['note', 'reason', 'action', 'regarding', 'type', 'eventTime', 'reportingController']) {
      if (JSON.stringify(event[field]) !== JSON.stringify(live[field])) {
        const shown = JSON.stringify(event[field]);
        causes.push(cause(field === 'note' ? 'message' : field, `Invalid value: ${shown}: field is immutable`));
      }
    }
    return causes;
  }
  const required = ['eventTime', 'reportingController', 'reportingInstance', 'action', 'reason'];
  for (const field of required) {
    if (!event[field]) causes.push(cause(field, 'Required value', 'FieldValueRequired'));
  }
  const bounds = { reportingInstance: 128, action: 128, reason: 128, note: 1024 };
  for (const [field, most] of Object.entries(bounds)) {
    if (Buffer.byteLength(stringOf(event[field])) > most) {
      causes.push(cause(field, `Invalid value: "": can have at most ${most} characters`));
    }
  }
  if (!['Normal', 'Warning'].includes(String(event['type']))) causes.push(cause('type', 'Invalid value: ""'));
  const about = mapOf(event['regarding'])['namespace'] ?? '';
  const namespace = event.metadata.namespace ?? '';
  if (about === '' && !CLUSTER_EVENT_NAMESPACES.includes(namespace)) {
    causes.push(cause('involvedObject.namespace', 'Invalid value: "": does not match event.namespace'));
  }
  const count = mapOf(event['series'])['count'];
  if (count !== undefined && Number(count) < 2)
    causes.push(cause('series.count', 'Invalid value: should be at least 2'));
  return causes;
}

/** Names in `imagePullSecrets` of a ServiceAccount. */
export function pullSecretNames(serviceAccount: KubeObject | null): string[] {
  return listOf(serviceAccount?.['imagePullSecrets']).map((entry) => stringOf(mapOf(entry)['name']));
}
