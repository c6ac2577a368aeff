import { expect, it } from 'vitest';
import type { Caches } from '../../src/controller/caches.ts';
import { listen } from '../../src/controller/enqueue.ts';
import type { NamespaceObject, ServiceAccountObject } from '../../src/controller/observedObjects.ts';
import { Store } from '../../src/kube/store.ts';
import { FakeClock } from '../fakeClock.ts';

const identified = { resourceVersion: '1', uid: '1' };
const namespace = { ...identified, name: 'team', labels: {}, ignored: false, terminating: false, createdAt: 0 };
const account = {
  ...{ ...identified, name: 'default', namespace: 'team', entries: [], isIgnored: false },
  ...{ ownedAt: null, listManager: null },
};

let versions = 0;

function listening() {
  const clock = new FakeClock();
  const namespaces = new Store<NamespaceObject>({ clock });
  const accounts = new Store<ServiceAccountObject>({ clock });
  const none = { store: new Store<unknown>({ clock }) };
  const caches = {
    ...{ namespaces: { store: namespaces }, serviceAccounts: { store: accounts }, resources: none, crds: none },
    ...{ secrets: new Map(), credentials: new Map() },
  } as unknown as Caches;
  const told: string[] = [];
  listen(caches, {
    queue: { add: (key, lane) => void told.push(`${lane} ${key}`) },
    namespaceGone: (name) => void told.push(`gone ${name}`),
    namespaceChanged: (name) => void told.push(`changed ${name}`),
    serviceAccountGone: (ns, name) => void told.push(`gone ${ns}/${name}`),
    ...{ resourceChanged: () => {}, resourceGone: () => {}, credentialsChanged: () => {} },
    ...{ crdReplaced: () => {}, statusChanged: () => {} },
  });
  const seen = (key: string, object: object): void => {
    const value = object as never;
    (key.includes('/') ? accounts : namespaces).set(key, { value, resourceVersion: `${(versions += 1)}` });
  };
  return { namespaces, accounts, told, seen };
}

it('a namespace that is gone, or another one of its name, is forgotten before it is looked at', () => {
  const { namespaces, told, seen } = listening();
  seen('team', namespace);
  seen('team', { ...namespace, labels: { a: 'b' } });
  expect(told.splice(0)).toEqual(['changed team', 'changed team']);
  seen('team', { ...namespace, uid: '2' }); // its deletion was never shown
  expect(told.splice(0)).toEqual(['gone team', 'changed team']);
  const value = { ...namespace, uid: '3' };
  namespaces.replace(new Map([['team', { value, resourceVersion: `${(versions += 1)}` }]]));
  expect(told.splice(0)).toEqual(['gone team', 'changed team']);
  namespaces.delete('team');
  expect(told).toEqual(['gone team']);
});

it('a ServiceAccount that is gone, or another one of its name, is forgotten before its namespace is looked at', () => {
  const { accounts, told, seen } = listening();
  seen('team/default', account);
  seen('team/default', { ...account, entries: ['other'] });
  seen('team/default', { ...account, entries: ['other'], listManager: 'helm' }); // nothing to us
  expect(told.splice(0)).toEqual(['urgent team', 'urgent team']);
  seen('team/default', { ...account, uid: '2' });
  expect(told.splice(0)).toEqual(['gone team/default', 'urgent team']);
  accounts.delete('team/default');
  expect(told).toEqual(['gone team/default']);
});
