import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { patchToAdd, patchToReleaseOwnership, patchToRemove } from '../../src/core/imagePullSecrets.ts';
import { entriesAfter } from './namespaceWorld.ts';

const list = (...entries: string[]) => ({ resourceVersion: '7', entries });
const test7 = { op: 'test', path: '/metadata/resourceVersion', value: '7' };

describe('the patch of a ServiceAccount', () => {
  it('makes the list where there is none: the API server omits an empty one', () => {
    expect(patchToAdd(list(), 'ecr-pull')).toEqual([
      test7,
      { op: 'add', path: '/imagePullSecrets', value: [{ name: 'ecr-pull' }] },
    ]);
  });
  it('appends to a foreign entry', () => {
    expect(patchToAdd(list('own'), 'ecr-pull')).toEqual([
      test7,
      { op: 'add', path: '/imagePullSecrets/-', value: { name: 'ecr-pull' } },
    ]);
  });
  it('is none where nothing is to do', () => {
    expect(patchToAdd(list('own', 'ecr-pull'), 'ecr-pull')).toBeNull();
    expect(patchToRemove(list('own'), 'ecr-pull')).toBeNull();
  });
  it('removes from the highest index down, testing each name', () => {
    expect(patchToRemove(list('ecr-pull', 'own', 'ecr-pull'), 'ecr-pull')).toEqual([
      test7,
      { op: 'test', path: '/imagePullSecrets/2/name', value: 'ecr-pull' },
      { op: 'remove', path: '/imagePullSecrets/2' },
      { op: 'test', path: '/imagePullSecrets/0/name', value: 'ecr-pull' },
      { op: 'remove', path: '/imagePullSecrets/0' },
    ]);
  });
  it('gives the ownership up by emptying our entry, since without any the server blames before-first-apply', () => {
    expect(patchToReleaseOwnership(list(), 1, 'ecr-pull-secrets')).toEqual([
      test7,
      { op: 'test', path: '/metadata/managedFields/1/manager', value: 'ecr-pull-secrets' },
      { op: 'replace', path: '/metadata/managedFields/1/fieldsV1', value: { 'f:metadata': {} } },
    ]);
  });
  it('keeps all others in their order, and ours once or never', () => {
    const entries = fc.array(fc.constantFrom('ecr-pull', 'own', 'third', ''));
    fc.assert(
      fc.property(entries, (names) => {
        const others = names.filter((name) => name !== 'ecr-pull');
        const added = entriesAfter(names, patchToAdd(list(...names), 'ecr-pull') ?? []);
        expect(added.filter((name) => name !== 'ecr-pull')).toEqual(others);
        expect(added.filter((name) => name === 'ecr-pull')).toHaveLength(1);
        expect(entriesAfter(names, patchToRemove(list(...names), 'ecr-pull') ?? [])).toEqual(others);
      }),
    );
  });
});
