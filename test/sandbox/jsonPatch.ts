import { isDeepStrictEqual } from 'node:util';
import { badRequest, patchFailed } from './apiFailure.ts';
import { isMap, type JsonMap } from './kubeObject.ts';

interface Operation {
  op?: unknown;
  path?: unknown;
  from?: unknown;
  value?: unknown;
}

/** RFC 6902. Whatever fails, a `test` or a missing path, fails alike; a patch that is none is 400. */
export function applyJsonPatch<T>(target: T, patch: unknown): T {
  if (!Array.isArray(patch)) throw badRequest('json: cannot unmarshal object into Go value of type jsonpatch.Patch');
  const root = { root: structuredClone(target) };
  for (const operation of patch as Operation[]) applyOne(root, operation);
  return root.root;
}

function applyOne(root: { root: unknown }, { op, path, from, value }: Operation): void {
  const at = locate(root, path);
  if (op === 'test') {
    // A missing member equals null, as json-patch.v4 has it.
    const present = at.has() ? at.get() : null;
    if (!isDeepStrictEqual(present, value ?? null)) throw patchFailed();
  } else if (op === 'add') at.add(structuredClone(value));
  else if (op === 'remove') at.remove();
  else if (op === 'replace') at.replace(structuredClone(value));
  else if (op === 'copy') at.add(structuredClone(locate(root, from).get()));
  else if (op === 'move') {
    const source = locate(root, from);
    const moved = source.get();
    source.remove();
    locate(root, path).add(moved);
  } else throw patchFailed();
}

interface Place {
  has(): boolean;
  get(): unknown;
  add(value: unknown): void;
  remove(): void;
  replace(value: unknown): void;
}

function locate(root: { root: unknown }, pointer: unknown): Place {
  if (typeof pointer !== 'string' || (pointer !== '' && !pointer.startsWith('/'))) throw patchFailed();
  const tokens = pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
  const last = tokens.pop();
  if (last === undefined) return memberPlace(root, 'root');
  let parent: unknown = root.root;
  for (const token of tokens) {
    if (Array.isArray(parent)) parent = parent[indexIn(parent, token)];
    else if (isMap(parent) && Object.hasOwn(parent, token)) parent = parent[token];
    else throw patchFailed();
  }
  if (Array.isArray(parent)) return itemPlace(parent, last);
  if (isMap(parent)) return memberPlace(parent, last);
  throw patchFailed();
}

function memberPlace(parent: JsonMap, name: string): Place {
  const set = (value: unknown): void => {
    Object.defineProperty(parent, name, { value, configurable: true, enumerable: true, writable: true });
  };
  const need = (): void => {
    if (!Object.hasOwn(parent, name)) throw patchFailed();
  };
  return {
    has: () => Object.hasOwn(parent, name),
    get: () => {
      need();
      return parent[name];
    },
    add: set,
    remove: () => {
      need();
      delete parent[name];
    },
    replace: (value) => {
      need();
      set(value);
    },
  };
}

function itemPlace(list: unknown[], token: string): Place {
  const index = (): number => indexIn(list, token);
  return {
    has: () => /^\d+$/.test(token) && Number(token) < list.length,
    get: () => list[index()],
    add: (value) => {
      const at = token === '-' ? list.length : /^\d+$/.test(token) ? Number(token) : -1;
      if (at < 0 || at > list.length) throw patchFailed();
      list.splice(at, 0, value);
    },
    remove: () => void list.splice(index(), 1),
    replace: (value) => {
      list[index()] = value;
    },
  };
}

function indexIn(list: readonly unknown[], token: string): number {
  if (!/^\d+$/.test(token) || Number(token) >= list.length) throw patchFailed();
  return Number(token);
}

/** RFC 7386: null removes, lists are replaced. */
export function applyMergePatch(target: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return structuredClone(patch);
  const result = new Map<string, unknown>(isMap(target) ? Object.entries(target) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) result.delete(name);
    else result.set(name, applyMergePatch(result.get(name), value));
  }
  return Object.fromEntries(result);
}
