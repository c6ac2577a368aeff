import { cause, type Cause } from './apiFailure.ts';
import { isMap, type JsonMap } from './kubeObject.ts';
import type { Shape } from './resourceTypes.ts';

/** The part of OpenAPI v3 that a CustomResourceDefinition of ours uses. */
export interface JsonSchema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly items?: JsonSchema;
  readonly required?: readonly string[];
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly default?: unknown;
  readonly nullable?: boolean;
  readonly format?: string;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
  readonly 'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
  readonly 'x-kubernetes-map-type'?: 'atomic' | 'granular';
}

/** Without fields that the schema does not know, without nulls that it does not allow, with its defaults. */
export function prunedAndDefaulted(value: unknown, schema: JsonSchema): unknown {
  if (Array.isArray(value)) return value.map((item) => prunedAndDefaulted(item, itemsOf(schema)));
  if (!isMap(value)) return value;
  const members = new Map<string, unknown>();
  for (const [name, member] of Object.entries(value)) {
    const known = schemaOf(schema, name);
    if (known === null || (member === null && known.nullable !== true && known.default !== undefined)) continue;
    members.set(name, prunedAndDefaulted(member, known));
  }
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (property.default === undefined || members.has(name)) continue;
    members.set(name, prunedAndDefaulted(structuredClone(property.default), property));
  }
  return Object.fromEntries(members);
}

/** The paths of fields that the schema does not know. */
export function unknownFields(value: unknown, schema: JsonSchema, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((v, i) => unknownFields(v, itemsOf(schema), `${path}[${i}]`));
  if (!isMap(value)) return [];
  return Object.entries(value).flatMap(([name, member]) => {
    const known = schemaOf(schema, name);
    return known === null ? [`${path}.${name}`] : unknownFields(member, known, `${path}.${name}`);
  });
}

const ANYTHING: JsonSchema = { 'x-kubernetes-preserve-unknown-fields': true };

function itemsOf(schema: JsonSchema): JsonSchema {
  return schema.items ?? (schema['x-kubernetes-preserve-unknown-fields'] === true ? ANYTHING : {});
}

function schemaOf(schema: JsonSchema, name: string): JsonSchema | null {
  const { properties, additionalProperties } = schema;
  const declared = properties && Object.hasOwn(properties, name) ? properties[name] : undefined;
  if (declared) return declared;
  if (schema['x-kubernetes-preserve-unknown-fields'] === true) return ANYTHING;
  if (isMap(additionalProperties)) return additionalProperties;
  return additionalProperties === true ? ANYTHING : null;
}

/** What the API server would say against the value, in its words. */
export function violations(value: unknown, schema: JsonSchema, path: string): Required<Cause>[] {
  if (value === null)
    return schema.nullable === true || schema.type === undefined ? [] : [wrongType(path, schema, value)];
  if (schema.type !== undefined && !hasType(value, schema.type)) return [wrongType(path, schema, value)];
  const found = [...scalarViolations(value, schema, path)];
  if (Array.isArray(value)) found.push(...listViolations(value, schema, path));
  else if (isMap(value)) found.push(...mapViolations(value, schema, path));
  return found;
}

function scalarViolations(value: unknown, schema: JsonSchema, path: string): Required<Cause>[] {
  const found: Required<Cause>[] = [];
  const { enum: allowed, pattern, minLength, maxLength, minimum, maximum } = schema;
  if (allowed && !allowed.includes(value)) {
    const list = allowed.map((one) => JSON.stringify(one)).join(', ');
    found.push(cause(path, `Unsupported value: ${text(value)}: supported values: ${list}`, 'FieldValueNotSupported'));
  }
  if (typeof value === 'string') {
    const { length } = Array.from(value); // code points, as the API server counts
    if (maxLength !== undefined && length > maxLength) {
      found.push(cause(path, `Too long: may not be more than ${maxLength} bytes`, 'FieldValueTooLong'));
    }
    if (minLength !== undefined && length < minLength) {
      found.push(inBody(path, value, `should be at least ${minLength} chars long`));
    }
    if (pattern !== undefined && !new RegExp(pattern, 'u').test(value)) {
      found.push(inBody(path, value, `should match '${pattern}'`));
    }
    if (schema.format === 'date-time' && Number.isNaN(Date.parse(value))) {
      found.push(inBody(path, value, `must be of type date-time: ${JSON.stringify(value)}`));
    }
  }
  if (typeof value === 'number') {
    if (minimum !== undefined && value < minimum) {
      found.push(inBody(path, value, `should be greater than or equal to ${minimum}`));
    }
    if (maximum !== undefined && value > maximum) {
      found.push(inBody(path, value, `should be less than or equal to ${maximum}`));
    }
  }
  return found;
}

function listViolations(list: readonly unknown[], schema: JsonSchema, path: string): Required<Cause>[] {
  const found: Required<Cause>[] = [];
  const { minItems, maxItems, items } = schema;
  if (maxItems !== undefined && list.length > maxItems) {
    found.push(cause(path, `Too many: ${list.length}: must have at most ${maxItems} items`, 'FieldValueTooMany'));
  }
  if (minItems !== undefined && list.length < minItems) {
    found.push(inBody(path, list.length, `should have at least ${minItems} items`));
  }
  found.push(...list.flatMap((item, index) => violations(item, items ?? {}, `${path}[${index}]`)));
  found.push(...duplicates(list, schema, path));
  return found;
}

function duplicates(list: readonly unknown[], schema: JsonSchema, path: string): Required<Cause>[] {
  const kind = schema['x-kubernetes-list-type'];
  if (kind !== 'map' && kind !== 'set') return [];
  const seen = new Set<string>();
  return list.flatMap((item, index) => {
    const keys = schema['x-kubernetes-list-map-keys'] ?? [];
    const key = kind === 'set' ? item : Object.fromEntries(keys.map((name) => [name, isMap(item) ? item[name] : null]));
    const id = JSON.stringify(key);
    const isDuplicate = seen.has(id);
    seen.add(id);
    return isDuplicate ? [cause(`${path}[${index}]`, `Duplicate value: ${id}`, 'FieldValueDuplicate')] : [];
  });
}

function mapViolations(map: JsonMap, schema: JsonSchema, path: string): Required<Cause>[] {
  const found: Required<Cause>[] = [];
  for (const name of schema.required ?? []) {
    if (!Object.hasOwn(map, name)) found.push(cause(`${path}.${name}`, 'Required value', 'FieldValueRequired'));
  }
  const count = Object.keys(map).length;
  if (schema.maxProperties !== undefined && count > schema.maxProperties) {
    found.push(cause(path, `Too many: ${count}: must have at most ${schema.maxProperties} items`, 'FieldValueTooMany'));
  }
  if (schema.minProperties !== undefined && count < schema.minProperties) {
    found.push(inBody(path, count, `should have at least ${schema.minProperties} properties`));
  }
  for (const [name, member] of Object.entries(map)) {
    const known = schemaOf(schema, name);
    if (known) found.push(...violations(member, known, `${path}.${name}`));
  }
  return found;
}

function hasType(value: unknown, type: string): boolean {
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isMap(value);
  if (type === 'integer') return Number.isInteger(value);
  return typeof value === type;
}

function wrongType(path: string, schema: JsonSchema, value: unknown): Required<Cause> {
  const is = Array.isArray(value) ? 'array' : value === null ? 'null' : isMap(value) ? 'object' : typeof value;
  const message = `${path} in body must be of type ${schema.type}: ${JSON.stringify(is)}`;
  return cause(path, `Invalid value: ${JSON.stringify(is)}: ${message}`, 'FieldValueTypeInvalid');
}

function inBody(path: string, value: unknown, what: string): Required<Cause> {
  return cause(path, `Invalid value: ${text(value)}: ${path} in body ${what}`);
}

function text(value: unknown): string {
  return JSON.stringify(value);
}

/** How server-side apply sees values of the schema. */
export function shapeOf(schema: JsonSchema): Shape {
  if (schema.type === 'array') {
    const kind = schema['x-kubernetes-list-type'] ?? 'atomic';
    if (kind === 'atomic') return { atomic: true };
    const items = shapeOf(schema.items ?? {});
    return kind === 'set' ? { set: true } : { keys: schema['x-kubernetes-list-map-keys'] ?? [], items };
  }
  if (schema['x-kubernetes-map-type'] === 'atomic') return { atomic: true };
  const { properties, additionalProperties } = schema;
  if (!properties) return isMap(additionalProperties) ? { values: shapeOf(additionalProperties) } : {};
  return {
    fields: Object.fromEntries(Object.entries(properties).map(([name, property]) => [name, shapeOf(property)])),
    closed: schema['x-kubernetes-preserve-unknown-fields'] !== true,
  };
}
