import { expect, it } from 'vitest';
import { NamespaceWorker, type NamespaceWorkerOptions } from '../../src/controller/namespaceWorker.ts';
import { reduceNamespace } from '../../src/controller/observedObjects.ts';
import { GoneError } from '../../src/errors.ts';
import { Store } from '../../src/kube/store.ts';
import { WorkQueue } from '../../src/kube/workQueue.ts';
import { FakeClock, flush } from '../fakeClock.ts';

it('a namespace of the same name that is seen while the API server says of the former that it is gone is not left alone', async () => {
  const clock = new FakeClock();
  const store = new Store<ReturnType<typeof reduceNamespace>>({ clock });
  const see = (uid: string): void => {
    const value = reduceNamespace({ metadata: { name: 'team', uid, resourceVersion: uid } });
    store.set('team', { value, resourceVersion: uid });
  };
  see('1');
  const queue = new WorkQueue({ clock, refreshPerSecond: () => 50 });
  const seen: (string | undefined)[] = [];
  const snapshot = (): null => {
    seen.push(store.get('team')?.uid);
    if (seen.length > 1) return null;
    see('2'); // while the write is under way
    throw new GoneError('NamespaceGone', 'the namespace team is gone');
  };
  const options = {
    ...{ clock, queue, caches: { namespaces: { store } }, onDone: () => {}, mayWork: () => true },
    reconcile: { snapshot },
  };
  const worker = new NamespaceWorker(options as unknown as NamespaceWorkerOptions);
  const stop = new AbortController();
  const running = worker.run(stop.signal);
  queue.add('team', 'urgent');
  await flush();
  queue.add('team', 'urgent');
  await flush();
  expect(seen).toEqual(['1', '2']);
  stop.abort();
  await running;
});
