import { describe, expect, it } from 'vitest';
import { crdName } from '../../src/api/groupVersion.ts';
import type { CrdObject, ResourceObject } from '../../src/controller/observedObjects.ts';
import { ResourceBook } from '../../src/controller/resourceBook.ts';
import { Store } from '../../src/kube/store.ts';
import { FakeClock } from '../fakeClock.ts';

const MINUTE = 60_000;
const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
const spec = { registries: [{ host }], namespaces: {} };

/** A book, and the cluster as its caches show it. */
function world() {
  const clock = new FakeClock();
  const crds = new Store<CrdObject>({ clock });
  const resources = new Store<ResourceObject>({ clock });
  const cache = <T>(store: Store<T>) => ({ store, reflector: {} as never });
  let version = 0;
  const uidNow = () => crds.get(crdName)?.uid;
  const metadata = () => ({ name: crdName, uid: uidNow(), creationTimestamp: new Date(clock.now()).toISOString() });
  const book = new ResourceBook({
    caches: { resources: cache(resources), crds: cache(crds) },
    client: { request: <T>() => Promise.resolve({ metadata: metadata() } as T) },
    clock,
    serverNow: () => clock.now(),
    removalDelayMs: 0,
    context: { env: {}, namespace: 'ours', credentialSecretNames: [], credentialSecret: () => undefined },
  });
  return {
    clock,
    book,
    installCrd: (uid: string, ageMs = 0) => {
      const value = { name: crdName, uid, resourceVersion: '1', isTerminating: false, createdAt: clock.now() - ageMs };
      crds.set(crdName, { value, resourceVersion: '1' });
      book.listed();
    },
    removeCrd: () => crds.delete(crdName),
    addResource: (name: string, itsSpec: object = spec, status?: unknown) => {
      const value = {
        name,
        uid: name,
        resourceVersion: String((version += 1)),
        generation: 1,
        refreshRequestedAt: null,
        isDeleting: false,
      };
      resources.set(name, {
        value: { ...value, spec: itsSpec, status },
        resourceVersion: value.resourceVersion,
      });
      book.read(name);
    },
    removeResource: (name: string) => {
      resources.delete(name);
      book.depart(name);
    },
  };
}

describe('a resource whose spec is refused', () => {
  const other = '210987654321.dkr.ecr.eu-west-1.amazonaws.com';
  const builders = { names: ['builder'], exclude: [] };
  const refusedSpec = (hosts: readonly string[]) => ({
    ...{ namespaces: {}, refresh: { schedule: '0 0 31 2 *' } },
    registries: hosts.map((host) => ({ host })),
  });
  const heldIn = ({ book }: ReturnType<typeof world>) =>
    book.resources.inOrder.map(({ held, registries, serviceAccounts }) => ({
      held,
      hosts: registries?.map(({ host }) => host) ?? null,
      serviceAccounts,
    }));

  it('holds what its last good one named, and what it names now', () => {
    const w = world();
    w.installCrd('a', 11 * MINUTE);
    w.addResource('production', { ...spec, serviceAccounts: builders });
    w.addResource('production', refusedSpec([other]));
    const expected = [{ held: 'InvalidSpec', hosts: [host, other], serviceAccounts: builders }];
    expect(heldIn(w)).toEqual(expected);
    w.addResource('production', refusedSpec([other, host]));
    expect(heldIn(w)).toEqual(expected);
  });

  it('does so also where it was deleted and made again', () => {
    const w = world();
    w.installCrd('a', 11 * MINUTE);
    w.addResource('production', { ...spec, serviceAccounts: builders });
    w.removeResource('production');
    w.addResource('production', refusedSpec([other]));
    expect(heldIn(w)).toEqual([{ held: 'InvalidSpec', hosts: [host, other], serviceAccounts: builders }]);
  });

  it('holds every ServiceAccount where its last good one is not known, as after a restart', () => {
    const w = world();
    w.installCrd('a', 11 * MINUTE);
    w.addResource('production', refusedSpec([host]));
    expect(heldIn(w)).toEqual([{ held: 'InvalidSpec', hosts: [host], serviceAccounts: null }]);
  });

  it('holds the hosts that its status tells of, where its last good one is not known', () => {
    const w = world();
    w.installCrd('a', 11 * MINUTE);
    w.addResource('production', refusedSpec([other]), { registries: [{ host, region: 'us-east-1' }] });
    expect(heldIn(w)).toEqual([{ held: 'InvalidSpec', hosts: [host, other], serviceAccounts: null }]);
  });

  it('holds what is written in its spec where its status cannot be read', () => {
    const w = world();
    w.installCrd('a', 11 * MINUTE);
    for (const status of [null, 'x', {}, { registries: 7 }, { registries: [null, { host: 1 }] }]) {
      w.addResource(`odd-${JSON.stringify(status)}`, refusedSpec([other]), status);
    }
    expect(heldIn(w).map(({ hosts }) => hosts)).toEqual(Array.from({ length: 5 }, () => [other]));
  });

  it.each([[`https://${host}`], ['registry.corp.example']])(
    'and every host where one of its own cannot be read: %s',
    (unreadable) => {
      const w = world();
      w.installCrd('a', 11 * MINUTE);
      w.addResource('production', refusedSpec([other, unreadable]));
      expect(heldIn(w)).toEqual([{ held: 'InvalidSpec', hosts: null, serviceAccounts: null }]);
    },
  );

  it('is forgotten with the next good one', () => {
    const w = world();
    w.installCrd('a', 11 * MINUTE);
    w.addResource('production');
    w.addResource('production', refusedSpec([other]));
    w.addResource('production', { ...spec, registries: [{ host: other }] });
    expect(heldIn(w)).toMatchObject([{ held: null, hosts: [other] }]);
  });
});

describe('hosts that no listed resource names', () => {
  it('are nobody’s under a CRD of some age', () => {
    const { book, installCrd } = world();
    installCrd('a', 11 * MINUTE);
    expect(book.resources.heldUnlessIn).toBeNull();
  });

  it('are held by an operator that has started since the CRD was made, until that is ten minutes old', async () => {
    const { book, clock, installCrd } = world();
    installCrd('a', 2 * MINUTE);
    expect(book.resources.heldUnlessIn).toEqual(new Set());
    await clock.advance((book.trustedInMs ?? 0) + 1);
    book.changed();
    expect(book.resources.heldUnlessIn).toBeNull();
    expect(book.trustedInMs).toBeNull();
  });

  it('are held by an operator that has started while there was no CRD: it is back before its resources', async () => {
    const { book, clock, installCrd } = world();
    expect(book.resources.heldUnlessIn).toEqual(new Set());
    await clock.advance(MINUTE);
    installCrd('a');
    book.changed();
    expect(book.resources.heldUnlessIn).toEqual(new Set());
  });

  it('are held on when the CRD is replaced a second time before the first list could be trusted', async () => {
    const { book, clock, installCrd, removeCrd } = world();
    installCrd('a', 1 * MINUTE);
    removeCrd();
    await clock.advance(MINUTE);
    installCrd('b');
    book.changed();
    expect(book.resources.heldUnlessIn).toEqual(new Set());
  });

  it('are nobody’s to an operator that knows what has gone with the CRD, which stays held', async () => {
    const { book, installCrd, removeCrd, addResource, removeResource } = world();
    installCrd('a', 11 * MINUTE);
    addResource('production');
    removeResource('production');
    removeCrd();
    installCrd('b');
    await book.settle();
    expect(book.resources.heldUnlessIn).toBeNull();
    expect(book.resources.inOrder.map(({ name, held }) => [name, held])).toEqual([['production', 'VanishedWithCrd']]);
  });

  it('are not those of a resource that was listed and deleted under the young CRD', async () => {
    const { book, installCrd, addResource, removeResource } = world();
    installCrd('a', 1 * MINUTE);
    addResource('production');
    removeResource('production');
    expect((await book.settle()).map(({ name }) => name)).toEqual(['production']);
    expect(book.resources.heldUnlessIn).toEqual(new Set([host]));
  });
});
