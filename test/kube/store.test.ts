import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { Store, type StoreChange } from '../../src/kube/store.ts';
import { FakeClock } from '../fakeClock.ts';

const object = (value: string, resourceVersion: string): { value: string; resourceVersion: string } => ({
  value,
  resourceVersion,
});

function storeWithChanges(): { store: Store<string>; changes: string[]; clock: FakeClock } {
  const clock = new FakeClock();
  const store = new Store<string>({ clock });
  const changes: string[] = [];
  store.subscribe(({ type, key, before, after }: StoreChange<string>) =>
    changes.push([type, key, before, after].join(' ').trim()),
  );
  return { store, changes, clock };
}

describe('Store', () => {
  it('tells each change with what was and what is', () => {
    const { store, changes } = storeWithChanges();
    store.set('a/x', object('one', '1'));
    store.set('a/x', object('two', '2'));
    store.set('a/x', object('two', '2'));
    store.delete('a/x');
    store.delete('a/x');
    expect(changes).toEqual(['added a/x  one', 'modified a/x one two', 'deleted a/x two']);
  });

  it('takes a list over: synthetic deletes, nothing for what is the same, lower versions too', () => {
    const { store, changes } = storeWithChanges();
    for (const [key, version] of [
      ['a', '5'],
      ['b', '6'],
      ['c', '7'],
    ] as const)
      store.set(key, object(key, version));
    changes.length = 0;
    store.subscribe(() => expect([...store.keys()].sort()).toEqual(['a', 'b', 'd']));
    store.replace(
      new Map([
        ['a', object('a', '5')],
        ['b', object('older', '2')],
        ['d', object('d', '3')],
      ]),
    );
    expect(changes).toEqual(['deleted c c', 'modified b b older', 'added d  d']);
  });

  it('has an index by namespace, also for names like members of objects', () => {
    const store = new Store<{ in: string }>({ clock: new FakeClock(), namespaceOf: (value) => value.in });
    store.set('x', { value: { in: 'constructor' }, resourceVersion: '1' });
    store.set('y', { value: { in: '__proto__' }, resourceVersion: '1' });
    expect(store.inNamespace('constructor')).toEqual([{ in: 'constructor' }]);
    store.set('x', { value: { in: '__proto__' }, resourceVersion: '2' });
    expect(store.inNamespace('constructor')).toEqual([]);
    expect(store.inNamespace('__proto__')).toHaveLength(2);
    expect(store.inNamespace('toString')).toEqual([]);
  });

  it('keeps index and content equal whatever happens', () => {
    const key = fc.constantFrom('a/1', 'a/2', 'b/1');
    const step = fc.oneof(
      fc.record({ key, version: fc.nat(3) }),
      fc.record({ gone: key }),
      fc.record({ list: fc.array(key) }),
    );
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const { store } = storeWithChanges();
        for (const each of steps) {
          if ('gone' in each) store.delete(each.gone);
          else if ('list' in each) store.replace(new Map(each.list.map((name) => [name, object(name, '9')])));
          else store.set(each.key, object(each.key, String(each.version)));
          const indexed = ['a', 'b'].flatMap((namespace) => store.inNamespace(namespace)).sort();
          expect(indexed).toEqual([...store.keys()].sort());
          expect([...store.values()]).toHaveLength(store.size);
        }
      }),
    );
  });

  it('goes on where a listener throws', () => {
    const { store, changes } = storeWithChanges();
    const errors: unknown[] = [];
    store.onListenerError = (error) => errors.push(error);
    store.subscribe(() => {
      throw new Error('bug');
    });
    const unsubscribe = store.subscribe(({ key }) => changes.push(`third ${key}`));
    store.set('a', object('a', '1'));
    unsubscribe();
    store.set('a', object('a', '2'));
    expect(changes).toEqual(['added a  a', 'third a', 'modified a a a']);
    expect(errors).toHaveLength(2);
  });
});

describe('waitFor', () => {
  it('knows a version whose event came before the answer, and one that others have followed', async () => {
    const { store } = storeWithChanges();
    for (const version of ['7', '8', '9']) store.set('a', object('a', version));
    expect(await store.waitFor('a', '7', 100)).toBe(true);
    expect(await store.waitFor('a', '9', 100)).toBe(true);
  });

  it('waits by equality, never by order', async () => {
    const { store, clock } = storeWithChanges();
    const wait = store.waitFor('a', '10', 1000);
    store.set('a', object('a', '11'));
    store.set('a', object('a', '9'));
    store.set('b', object('b', '10'));
    let done: boolean | null = null;
    void wait.then((seen) => (done = seen));
    await clock.advance(999);
    expect(done).toBeNull();
    store.set('a', object('a', '10'));
    expect(await wait).toBe(true);
    expect(clock.pending).toBe(0);
  });

  it('gives up after its time', async () => {
    const { store, clock } = storeWithChanges();
    const waits = [store.waitFor('a', '1', 1000), store.waitFor('a', '2', 500)];
    await clock.advance(1000);
    expect(await Promise.all(waits)).toEqual([false, false]);
  });
});

it('ends all waits, those to come too, with what is so', async () => {
  const { store, clock } = storeWithChanges();
  store.set('a', object('x', '1'));
  const waits = [store.waitFor('a', '2', 1000), store.waitFor('b', '1', 1000), store.waitForEndOf('a', '1', 1000)];
  store.endWaits();
  expect(await Promise.all(waits)).toEqual([false, false, false]);
  expect(await store.waitFor('a', '2', 1000)).toBe(false);
  expect(await store.waitFor('a', '1', 1000)).toBe(true);
  expect(await store.waitForEndOf('b', '1', 1000)).toBe(true);
  expect(clock.pending).toBe(0);
});

describe('waitForEndOf', () => {
  it('ends with the deletion, or with a change', async () => {
    const { store, clock } = storeWithChanges();
    for (const key of ['a', 'b', 'c']) store.set(key, object(key, '1'));
    const waits = ['a', 'b', 'c', 'd'].map((key) => store.waitForEndOf(key, '1', 1000));
    store.delete('a');
    store.set('b', object('b', '2'));
    await clock.advance(1000);
    expect(await Promise.all(waits)).toEqual([true, true, false, true]);
    expect(clock.pending).toBe(0);
  });
});
