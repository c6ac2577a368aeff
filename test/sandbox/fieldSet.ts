import { isDeepStrictEqual } from 'node:util';
import { isMap, listOf, mapOf, type FieldsV1, type JsonMap } from './kubeObject.ts';
import type { Shape } from './resourceTypes.ts';

/** Fields by their paths: elements as in fieldsV1 (`f:data`, `k:{"name":"x"}`, `v:"x"`), joined by the separator. */
export type FieldSet = Set<string>;

const SEPARATOR = '\u0001';
const LEAF: Shape = { atomic: true };
const DATA: Shape = {};

export function fromFieldsV1(fields: FieldsV1): FieldSet {
  const set: FieldSet = new Set();
  const walk = (node: FieldsV1, path: string): void => {
    for (const [element, child] of Object.entries(node)) {
      if (element === '.') set.add(path);
      else {
        const next = join(path, element);
        if (Object.keys(child).length === 0) set.add(next);
        else walk(child, next);
      }
    }
  };
  walk(fields, '');
  return set;
}

export function toFieldsV1(set: FieldSet): FieldsV1 {
  const root: FieldsV1 = {};
  for (const path of [...set].sort()) {
    let node = root;
    for (const element of path.split(SEPARATOR)) node = node[element] ??= {};
    node['.'] = {};
  }
  const tidy = (node: FieldsV1): FieldsV1 => {
    const elements = Object.keys(node);
    if (elements.length === 1 && elements[0] === '.') return {};
    return Object.fromEntries(elements.sort().map((element) => [element, tidy(node[element] ?? {})]));
  };
  return tidy(root);
}

/** What an applied configuration claims. */
export function fieldsOf(value: unknown, shape: Shape): FieldSet {
  const set: FieldSet = new Set();
  const walk = (value: unknown, shape: Shape, path: string): void => {
    const children = childrenOf(value, shape);
    if (children === null || children.size === 0) {
      if (path !== '') set.add(path);
      return;
    }
    for (const [element, child] of children) {
      const next = join(path, element);
      if (!element.startsWith('f:')) set.add(next);
      walk(child.value, child.shape, next);
    }
  };
  walk(value, shape, '');
  return set;
}

export interface Comparison {
  readonly added: FieldSet;
  readonly modified: FieldSet;
  readonly removed: FieldSet;
}

/** Which fields differ. A map or an item that is new, or gone, is named itself, beside what is in it. */
export function compare(before: unknown, after: unknown, shape: Shape): Comparison {
  const result: Comparison = { added: new Set(), modified: new Set(), removed: new Set() };
  const one = (path: string, before: unknown, after: unknown): void => {
    if (before === undefined) result.added.add(path);
    else if (after === undefined) result.removed.add(path);
    else if (!isDeepStrictEqual(before, after)) result.modified.add(path);
  };
  const walk = (path: string, before: unknown, after: unknown, shape: Shape): void => {
    if (before === after) return;
    const [old, now] = [childrenOf(before, shape), childrenOf(after, shape)];
    const isLeaf = (before !== undefined && old === null) || (after !== undefined && now === null);
    const elements = new Set([old, now].flatMap((children) => [...(children?.keys() ?? [])]));
    if (isLeaf || elements.size === 0) return one(path, before, after);
    const isNewOrGone = before === undefined || after === undefined;
    if (isNewOrGone && hasOwnEntry(path, shape)) one(path, before, after);
    for (const element of elements) {
      const [was, is] = [old?.get(element), now?.get(element)];
      walk(join(path, element), was?.value, is?.value, (was ?? is)?.shape ?? DATA);
    }
  };
  walk('', before, after, shape);
  return result;
}

function hasOwnEntry(path: string, shape: Shape): boolean {
  return path !== '' && shape.always !== true;
}

interface Child {
  readonly value: unknown;
  readonly shape: Shape;
}

/** The parts that are owned one by one; null where the value is owned as a whole. */
export function childrenOf(value: unknown, shape: Shape): Map<string, Child> | null {
  if (shape.atomic === true) return null;
  if (Array.isArray(value)) return shape.keys || shape.set ? itemsOf(value, shape) : null;
  if (!isMap(value)) return null;
  const children = new Map<string, Child>();
  for (const [name, member] of Object.entries(value)) {
    if (member !== undefined) children.set(`f:${name}`, { value: member, shape: memberShape(shape, name) });
  }
  return children;
}

export function memberShape(shape: Shape, name: string): Shape {
  const declared = shape.fields !== undefined && Object.hasOwn(shape.fields, name) ? shape.fields[name] : undefined;
  return declared ?? shape.values ?? DATA;
}

function itemsOf(list: readonly unknown[], shape: Shape): Map<string, Child> {
  return new Map(list.map((item) => [elementOf(item, shape), { value: item, shape: shape.items ?? LEAF }]));
}

/** `k:{"name":"x"}` of an item in a list with keys, `v:"x"` in a set. */
export function elementOf(item: unknown, shape: Shape): string {
  if (!shape.keys) return `v:${JSON.stringify(item)}`;
  const keys = [...shape.keys].sort().map((key) => [key, mapOf(item)[key]]);
  return `k:${JSON.stringify(Object.fromEntries(keys))}`;
}

/** The live object with the configuration on top. */
export function merge(live: unknown, config: unknown, shape: Shape): unknown {
  if (config === undefined) return live;
  if (shape.atomic === true) return config;
  if (Array.isArray(config)) return shape.keys || shape.set ? mergeItems(listOf(live), config, shape) : config;
  if (!isMap(config) || !isMap(live)) return config;
  const merged = new Map<string, unknown>(Object.entries(live));
  for (const [name, member] of Object.entries(config)) {
    merged.set(name, merge(merged.get(name), member, memberShape(shape, name)));
  }
  return Object.fromEntries(merged);
}

function mergeItems(live: readonly unknown[], config: readonly unknown[], shape: Shape): unknown[] {
  const items = new Map(live.map((item) => [elementOf(item, shape), item]));
  for (const item of config) {
    const element = elementOf(item, shape);
    items.set(element, merge(items.get(element), item, shape.items ?? LEAF));
  }
  return [...items.values()];
}

/** The value without these fields, and without what became empty by that; undefined where nothing is left. */
export function without(value: unknown, shape: Shape, gone: FieldSet, path = ''): unknown {
  const children = childrenOf(value, shape);
  if (children === null) return gone.has(path) ? undefined : value;
  const kept = new Map<string, unknown>();
  for (const [element, child] of children) {
    const left = without(child.value, child.shape, gone, join(path, element));
    if (left !== undefined) kept.set(element, left);
  }
  if (kept.size === 0 && (children.size > 0 || gone.has(path))) return undefined;
  if (Array.isArray(value)) return itemsLeft(kept, path, gone);
  return Object.fromEntries([...kept].map(([element, left]) => [element.slice(2), left]));
}

// An item goes when its own mark is given up and nothing but its keys is left of it.
function itemsLeft(kept: Map<string, unknown>, path: string, gone: FieldSet): unknown[] {
  return [...kept].filter(([element]) => !gone.has(join(path, element))).map(([, item]) => item);
}

export function union(...sets: readonly FieldSet[]): FieldSet {
  return new Set(sets.flatMap((set) => [...set]));
}

export function minus(set: FieldSet, other: FieldSet): FieldSet {
  return new Set([...set].filter((path) => !other.has(path)));
}

export function common(set: FieldSet, other: FieldSet): FieldSet {
  return new Set([...set].filter((path) => other.has(path)));
}

/** `.data.x`, as a conflict names a field. */
export function readable(path: string): string {
  return path
    .split(SEPARATOR)
    .map((element) => {
      if (element.startsWith('f:')) return `.${element.slice(2)}`;
      if (element.startsWith('v:')) return `[=${element.slice(2)}]`;
      const keys = JSON.parse(element.slice(2)) as JsonMap;
      return `[${Object.entries(keys)
        .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
        .join(',')}]`;
    })
    .join('');
}

export function join(path: string, element: string): string {
  return path === '' ? element : `${path}${SEPARATOR}${element}`;
}

/** `fieldPath('metadata', 'labels')`. */
export function fieldPath(...names: readonly string[]): string {
  return names.map((name) => `f:${name}`).join(SEPARATOR);
}
