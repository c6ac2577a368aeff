import { describe, expect, it, onTestFinished } from 'vitest';
import { NamespaceWorker, type NamespaceWorkerOptions } from '../../src/controller/namespaceWorker.ts';
import { reduceNamespace } from '../../src/controller/observedObjects.ts';
import { GoneError, TransientError } from '../../src/errors.ts';
import { ApiStatusError } from '../../src/kube/apiStatusError.ts';
import { Store } from '../../src/kube/store.ts';
import { WorkQueue } from '../../src/kube/workQueue.ts';
import { FakeClock, flush } from '../fakeClock.ts';

interface World {
  readonly clock: FakeClock;
  readonly queue: WorkQueue;
  readonly namespaces: Store<ReturnType<typeof reduceNamespace>>;
  readonly see: (uid: string) => void;
}

function startWorld(): World {
  const clock = new FakeClock();
  const namespaces: World['namespaces'] = new Store({ clock });
  const see = (uid: string): void => {
    const value = reduceNamespace({ metadata: { name: 'team', uid, resourceVersion: uid } });
    namespaces.set('team', { value, resourceVersion: uid });
  };
  see('1');
  return { clock, namespaces, see, queue: new WorkQueue({ clock, refreshPerSecond: () => 50 }) };
}

/** Of the options of a worker those that count here; it works until the test ends. */
function startWorker({ clock, queue, namespaces }: World, options: object): NamespaceWorker {
  const worker = new NamespaceWorker({
    ...{ clock, queue, caches: { namespaces: { store: namespaces } }, onDone: () => {}, mayWork: () => true },
    ...options,
  } as unknown as NamespaceWorkerOptions);
  const stop = new AbortController();
  const running = worker.run(stop.signal);
  onTestFinished(() => {
    stop.abort();
    return running;
  });
  return worker;
}

it('a namespace of the same name that is seen while the API server says of the former that it is gone is not left alone', async () => {
  const world = startWorld();
  const { queue, namespaces, see } = world;
  const seen: (string | undefined)[] = [];
  const snapshot = (): null => {
    seen.push(namespaces.get('team')?.uid);
    if (seen.length > 1) return null;
    see('2'); // while the write is under way
    throw new GoneError('NamespaceGone', 'the namespace team is gone');
  };
  startWorker(world, { reconcile: { snapshot } });
  queue.add('team', 'urgent');
  await flush();
  queue.add('team', 'urgent');
  await flush();
  expect(seen).toEqual(['1', '2']);
});

describe('a run that fails', () => {
  const refused = new ApiStatusError(
    { verb: 'patch', resource: 'secrets', namespace: 'team', name: 'ecr-pull' },
    { status: 403, reason: 'Forbidden', message: 'exceeded quota: few', causes: [] },
  );
  const away = new TransientError('Unreachable', 'no answer');

  it.each<[string, Error, RegExp]>([
    ['before it has seen anything', away, /no answer/],
    ['by a refusal that cannot be looked into', refused, /exceeded quota: few/],
  ])('%s is told as what it is', async (_, error, message) => {
    const done: string[] = [];
    const world = startWorld();
    const snapshot = () => {
      throw error;
    };
    const worker = startWorker(world, {
      reconcile: { snapshot },
      onDone: (name: string) => done.push(name),
      permissions: { confirmMissing: () => Promise.reject(away) },
      log: { warn: () => {} },
    });
    world.queue.add('team', 'urgent');
    await flush();
    expect(worker.stateOf('team')).toMatchObject({ kind: 'Failed', message: expect.stringMatching(message) as string });
    expect(done).toEqual(['team']);
  });
});
