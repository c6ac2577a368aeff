// ServiceAccount.imagePullSecrets is an atomic list without a merge key: strategic merge, merge patch and forced
// server-side apply all replace it whole and lose the entries of others. Only a JSON patch edits one element, and only
// its `test` of the resourceVersion makes it a compare-and-swap: without it, two writers append ours twice.

export type JsonPatch = readonly { op: 'add' | 'remove' | 'replace' | 'test'; path: string; value?: unknown }[];

/** A ServiceAccount's list as it was read: the entries' names in order, and when. */
export interface EntryList {
  readonly resourceVersion: string;
  readonly entries: readonly string[];
}

/** The patch after which `name` is in the list exactly once, or null where it already is. */
export function patchToAdd(list: EntryList, name: string): JsonPatch | null {
  const positions = positionsOf(list, name);
  if (positions.length === 1) return null;
  if (positions.length > 1) return removing(list, name, positions.slice(1));
  const entry = { name };
  // The API server omits an empty list, and `-` on an absent one fails.
  const add = list.entries.length
    ? { op: 'add' as const, path: '/imagePullSecrets/-', value: entry }
    : { op: 'add' as const, path: '/imagePullSecrets', value: [entry] };
  return [sameVersion(list), add];
}

/** The patch after which `name` is not in the list, or null where it is not. */
export function patchToRemove(list: EntryList, name: string): JsonPatch | null {
  const positions = positionsOf(list, name);
  return positions.length ? removing(list, name, positions) : null;
}

/**
 * The patch that gives up the ownership of the list which the API server noted for us at `index` of managedFields, once
 * somebody applies the object: with it, their next apply would be a conflict. The entry is emptied, since without
 * any the server blames `before-first-apply` (run on 1.36).
 */
export function patchToReleaseOwnership(list: EntryList, index: number, manager: string): JsonPatch {
  const path = `/metadata/managedFields/${index}`;
  return [
    sameVersion(list),
    { op: 'test', path: `${path}/manager`, value: manager },
    { op: 'replace', path: `${path}/fieldsV1`, value: { 'f:metadata': {} } },
  ];
}

function removing(list: EntryList, name: string, positions: readonly number[]): JsonPatch {
  // From the highest index down: each removal moves what stands behind it.
  const steps = positions.toReversed().flatMap((index) => [
    { op: 'test' as const, path: `/imagePullSecrets/${index}/name`, value: name },
    { op: 'remove' as const, path: `/imagePullSecrets/${index}` },
  ]);
  return [sameVersion(list), ...steps];
}

function positionsOf(list: EntryList, name: string): number[] {
  return list.entries.flatMap((entry, index) => (entry === name ? [index] : []));
}

function sameVersion(list: EntryList): JsonPatch[number] {
  return { op: 'test', path: '/metadata/resourceVersion', value: list.resourceVersion };
}
