import { describe, expect, it, onTestFinished } from 'vitest';

import type { KubeClient } from '../../src/kube/client.ts';
import type { KubeObject } from '../../src/kube/kubeObject.ts';
import { Reflector, type ReflectorOptions } from '../../src/kube/reflector.ts';
import { Store } from '../../src/kube/store.ts';
import { FakeClock, flush } from '../fakeClock.ts';
import { namespace, startApi, type FakeApi } from './fakeApi.ts';
import { answer, clientFor, statusBody, until, type TestLog } from './testServer.ts';

type Kept = { name: string; team: string | undefined };

interface World {
  api: FakeApi;
  client: KubeClient;
  clock: FakeClock;
  store: Store<Kept>;
  reflector: Reflector<Kept>;
  changes: string[];
  log: TestLog;
}

async function start(api: FakeApi, o: Partial<ReflectorOptions<Kept>> = {}): Promise<World> {
  const clock = new FakeClock();
  const { client, log } = clientFor(api.server, { clock });
  const store = new Store<Kept>({ clock });
  const changes: string[] = [];
  store.subscribe(({ type, key }) => changes.push(`${type} ${key}`));
  const reflector = new Reflector<Kept>({
    ...{
      client,
      clock,
      store,
      log,
      random: () => 0.999,
      kind: 'Namespace',
      path: '/api/v1/namespaces',
      metadataOnly: true,
    },
    reduce: ({ metadata }) => ({ name: metadata.name, team: metadata.labels?.['team'] }),
    ...o,
  });
  onTestFinished(() => reflector.stop());
  reflector.start();
  return { api, client, clock, store, reflector, changes, log };
}

async function watching(api: FakeApi, o: Partial<ReflectorOptions<Kept>> = {}): Promise<World> {
  const world = await start(api, o);
  await api.open();
  await until(() => world.reflector.state.synced);
  return world;
}

/** Lets the reflector's back-off pass, in steps, until it has done what it is waited for. */
async function pass(world: World, holds: () => boolean, mostMs = 40_000): Promise<number> {
  const begun = world.clock.monotonic();
  await until(() => world.clock.pending > 0 || holds(), 'a back-off');
  while (!holds() && world.clock.monotonic() - begun < mostMs) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    if (!holds()) await world.clock.advance(200);
  }
  await until(holds, 'the next try');
  return world.clock.monotonic() - begun;
}

const expired = statusBody(410, 'Expired');

describe('a list and a watch', () => {
  it('keep the store current', async () => {
    const world = await watching(await startApi([namespace('a', '1'), namespace('b', '2')]));
    const { api, store, changes, reflector } = world;
    expect(api.lists).toEqual(['limit=500']);
    expect(api.watches[0]).toMatch(/^resourceVersion=10&allowWatchBookmarks=true&timeoutSeconds=\d+&watch=true$/);
    api.send('ADDED', namespace('c', '11'));
    api.send('MODIFIED', namespace('a', '12', { team: 'x' }));
    api.send('DELETED', namespace('b', '13'));
    api.send('BOOKMARK', { metadata: { resourceVersion: '20' } });
    await until(() => changes.length === 5);
    expect(changes).toEqual(['added a', 'added b', 'added c', 'modified a', 'deleted b']);
    expect(store.get('a')).toEqual({ name: 'a', team: 'x' });
    expect(reflector.state).toMatchObject({ synced: true, everSynced: true, error: null, listStatus: 200 });
    expect(reflector.state.staleMs).toBe(0);
    await world.clock.advance(60_000);
    expect(reflector.state.staleMs).toBe(60_000);
  });

  it('are asked with the selectors', async () => {
    const { api } = await watching(await startApi(), { query: { fieldSelector: 'metadata.name=pull' } });
    expect(api.lists[0]).toBe('fieldSelector=metadata.name=pull&limit=500');
    expect(api.watches[0]).toContain('fieldSelector=metadata.name=pull&resourceVersion=10');
  });

  it('asks for between five and ten minutes of watch', async () => {
    for (const [random, seconds] of [
      [0, 300],
      [0.9999, 599],
    ] as const) {
      const { api } = await watching(await startApi(), { random: () => random });
      expect(api.watches[0]).toContain(`timeoutSeconds=${seconds}`);
    }
  });

  it('that ends cleanly is opened again from the last version, with no list', async () => {
    const { api, store } = await watching(await startApi());
    api.send('BOOKMARK', { metadata: { resourceVersion: '17' } });
    api.end();
    await until(() => api.watches.length === 2);
    expect(api.watches[1]).toContain('resourceVersion=17');
    await api.open();
    api.send('ADDED', namespace('late', '18'));
    await until(() => store.size === 1);
    expect(api.lists).toHaveLength(1);
  });

  it('many times leave no timer, listener or socket behind', async () => {
    const { api, clock } = await watching(await startApi());
    for (let i = 0; i < 30; i++) {
      await api.open();
      api.send('BOOKMARK', { metadata: { resourceVersion: String(100 + i) } });
      api.end();
      await until(() => api.watches.length === i + 2);
    }
    await api.open();
    expect(api.lists).toHaveLength(1);
    expect(clock.pending).toBeLessThanOrEqual(2);
    expect(api.server.connections).toBeLessThanOrEqual(4);
  });

  it('reads lists in pages', async () => {
    const api = await startApi();
    api.onList = (request, response) => {
      const page = /continue=(\d)/.exec(request.url)?.[1] ?? '0';
      const more = page === '2' ? {} : { continue: String(Number(page) + 1) };
      answer(response, 200, {
        kind: 'List',
        metadata: { resourceVersion: '10', ...more },
        items: [namespace(`n${page}`, '1')],
      });
    };
    const { store } = await watching(api, { pageSize: 1 });
    expect(api.lists).toEqual(['limit=1', 'limit=1&continue=1', 'limit=1&continue=2']);
    expect([...store.keys()]).toEqual(['n0', 'n1', 'n2']);
  });
});

describe('the bytes of a watch', () => {
  it('may be cut anywhere, within a character too', async () => {
    const { api, store } = await watching(await startApi());
    const bytes = Buffer.from(`${JSON.stringify({ type: 'ADDED', object: namespace('a', '11', { team: 'ö€𝄞' }) })}\n`);
    for (const byte of bytes) {
      api.sendRaw(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    await until(() => store.size === 1);
    expect(store.get('a')?.team).toBe('ö€𝄞');
  });

  it('that end within a line are an error, and nothing of the line is taken', async () => {
    const world = await watching(await startApi());
    world.api.sendRaw('{"type":"ADDED","object":{"metadata":{"name":"x","resour');
    world.api.end();
    await pass(world, () => world.api.watches.length === 2);
    expect(world.api.watches[1]).toContain('resourceVersion=10');
    expect(world.store.size).toBe(0);
    expect(world.api.lists).toHaveLength(1);
  });

  it.each([
    ['no JSON', 'this is no JSON\n'],
    ['HTML', '<html>\n<body>\n'],
    ['an unknown type', '{"type":"OTHER","object":{"metadata":{}}}\n'],
    ['no object', '{"type":"ADDED"}\n'],
    ['an object without a version', '{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n'],
    ['an object without a name', '{"type":"ADDED","object":{"metadata":{"resourceVersion":"11"}}}\n'],
  ])('that are %s are an error', async (_, line) => {
    const world = await watching(await startApi());
    world.api.sendRaw(line);
    await pass(world, () => world.api.watches.length === 2);
    expect(world.store.size).toBe(0);
  });
});

describe('410 means a new list, in each of its shapes', () => {
  it('at the start of a watch', async () => {
    const api = await startApi([namespace('a', '1')]);
    const world = await watching(api);
    api.objects = [namespace('b', '30')];
    api.version = '30';
    api.onWatch = (_, response) => {
      api.onWatch = null;
      answer(response, 410, expired);
    };
    api.end();
    await pass(world, () => api.watches.length === 3);
    expect(api.watches[2]).toContain('resourceVersion=30');
    expect(world.changes).toEqual(['added a', 'deleted a', 'added b']);
    expect(api.lists[1]).toBe('limit=500');
  });

  it('as an event', async () => {
    const world = await watching(await startApi([namespace('a', '1')]));
    world.api.version = '40';
    world.api.send('ERROR', expired);
    await until(() => world.api.watches.length === 2);
    expect(world.api.watches[1]).toContain('resourceVersion=40');
    expect(world.api.lists).toHaveLength(2);
    expect(world.clock.monotonic()).toBe(0);
  });

  it.each([
    [410, 'Expired'],
    [400, 'BadRequest'],
  ])('of a page: %d', async (code, reason) => {
    const api = await startApi();
    let refuse = true;
    api.onList = (request, response) => {
      const isSecond = request.url.includes('continue=');
      if (isSecond && refuse) {
        refuse = false;
        return answer(response, code, statusBody(code, reason));
      }
      const metadata = { resourceVersion: '10', ...(isSecond ? {} : { continue: 'next' }) };
      answer(response, 200, { kind: 'List', metadata, items: [namespace(isSecond ? 'b' : 'a', '1')] });
    };
    const { store, clock } = await watching(api);
    expect(api.lists).toEqual(['limit=500', 'limit=500&continue=next', 'limit=500', 'limit=500&continue=next']);
    expect([...store.keys()]).toEqual(['a', 'b']);
    expect(clock.monotonic()).toBe(0);
  });

  it('again and again is no spin', async () => {
    const api = await startApi();
    api.onWatch = (_, response) => answer(response, 410, expired);
    const world = await start(api);
    await until(() => api.watches.length === 2);
    await flush();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(api.watches.length).toBe(2);
    const waited = await pass(world, () => api.watches.length === 4);
    expect(waited).toBeGreaterThan(2000);
  });

  it('of every list is told, once', async () => {
    const api = await startApi();
    api.onList = (_, response) => answer(response, 410, expired);
    const world = await start(api);
    await pass(world, () => api.lists.length === 6);
    const told = world.log.lines.filter(({ level }) => level === 'warn');
    expect(told.map(({ message, fields }) => [message, fields['kind']])).toEqual([
      ['list or watch failed', 'Namespace'],
    ]);
  });
});

describe('failures', () => {
  it('of the connection: the watch goes on from its version, after a back-off that doubles to 30 s', async () => {
    const api = await startApi();
    const world = await watching(api);
    api.onWatch = (request) => request.socket.resetAndDestroy();
    api.reset();
    const waits = [];
    for (let tries = 2; tries <= 9; tries++) {
      waits.push(Math.round((await pass(world, () => api.watches.length === tries)) / 1000));
    }
    expect(waits).toEqual([1, 2, 3, 6, 13, 26, 30, 30]);
    expect(api.lists).toHaveLength(1);
    expect(world.reflector.state).toMatchObject({ synced: true, error: { code: 'Network' } });
    api.onWatch = null;
    await pass(world, () => world.reflector.state.error === null);
    await api.open();
    api.send('ADDED', namespace('a', '11'));
    await until(() => world.store.size === 1);
    api.reset();
    expect(await pass(world, () => world.reflector.state.error === null && api.watches.length > 10)).toBeLessThan(1500);
  });

  it('of a watch that had been open for a while: it is opened again soon, however often, and with no list', async () => {
    const world = await watching(await startApi());
    for (let times = 1; times <= 12; times++) {
      await world.api.open();
      await until(() => world.reflector.state.error === null);
      await world.clock.advance(1000);
      world.api.reset();
      expect(await pass(world, () => world.api.watches.length === times + 1)).toBeLessThan(1500);
    }
    expect(world.api.lists).toHaveLength(1);
  });

  it('that end for everybody: it tries again within a second, and not where it was told to wait longer', async () => {
    for (const [retryAfter, least, most] of [
      [null, 0, 1500],
      ['25', 25_000, 26_500],
    ] as const) {
      const api = await startApi();
      const world = await watching(api);
      const down: FakeApi['onWatch'] = (request) => request.socket.resetAndDestroy();
      api.onWatch = down;
      api.onList = down;
      api.reset();
      for (let tries = 2; tries <= 6; tries++) await pass(world, () => api.watches.length === tries);
      const headers = retryAfter === null ? {} : { 'retry-after': retryAfter };
      if (retryAfter !== null) api.onWatch = (_, response) => answer(response, 429, 'later', headers);
      await pass(world, () => api.watches.length === 7);
      await until(() => world.clock.pending > 0);
      api.onWatch = null;
      api.onList = null;
      await world.client.request({ method: 'GET', path: '/api/v1/pods' });
      const waited = await pass(world, () => api.watches.length === 8);
      expect(waited).toBeGreaterThanOrEqual(least);
      expect(waited).toBeLessThan(most);
    }
  });

  it.each([
    ['HTML with 200', 200, '<html>'],
    ['an empty body', 200, ''],
    ['a list without items', 200, { kind: 'List', metadata: { resourceVersion: '9' } }],
    ['a list without a version', 200, { kind: 'List', metadata: {}, items: [] }],
    ['500', 500, statusBody(500, 'InternalError')],
    ['502 of a proxy', 502, '<html>'],
    ['403', 403, statusBody(403, 'Forbidden')],
    ['404', 404, '404 page not found'],
  ] as [string, number, unknown][])('of a list leave the store as it is: %s', async (_, status, body) => {
    const api = await startApi([namespace('a', '1')]);
    const world = await watching(api);
    api.onList = (_request, response) => answer(response, status, body);
    world.reflector.relist();
    await until(() => world.reflector.state.error !== null);
    expect([...world.store.keys()]).toEqual(['a']);
    const isRefused = status === 403 || status === 404;
    expect(world.reflector.state).toMatchObject({ synced: !isRefused, everSynced: true });
    expect(world.reflector.state.listStatus).toBe(isRefused ? status : null);
    expect(world.changes).toEqual(['added a']);
    api.onList = null;
    await pass(world, () => world.reflector.state.error === null);
    expect(world.reflector.state).toMatchObject({ synced: true, listStatus: 200 });
  });

  it('403 and 404 are tried for ever, at most 30 s apart, and at once when asked to', async () => {
    const api = await startApi();
    api.onList = (_, response) => answer(response, 403, statusBody(403, 'Forbidden'));
    const world = await start(api);
    await until(() => world.reflector.state.listStatus === 403);
    expect(world.reflector.state).toMatchObject({ synced: false, everSynced: false, staleMs: Infinity });
    for (let tries = 2; tries <= 10; tries++) {
      expect(await pass(world, () => api.lists.length === tries)).toBeLessThanOrEqual(31_000);
    }
    api.onList = null;
    await until(() => world.clock.pending > 0);
    const before = world.clock.monotonic();
    world.reflector.relist();
    await until(() => world.reflector.state.synced);
    expect(world.clock.monotonic()).toBe(before);
    expect(world.log.lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
  });

  it('Retry-After is waited for', async () => {
    const api = await startApi();
    api.onList = (_, response) => {
      api.onList = null;
      answer(response, 429, 'later', { 'retry-after': '20' });
    };
    const world = await start(api);
    expect(await pass(world, () => api.lists.length === 2)).toBeGreaterThanOrEqual(20_000);
  });

  it('429 at the start of a watch: the same version, no list', async () => {
    const api = await startApi();
    api.onWatch = (_, response) => {
      api.onWatch = null;
      answer(response, 429, 'later', { 'retry-after': '5' });
    };
    const world = await start(api);
    expect(await pass(world, () => api.watches.length === 2)).toBeGreaterThanOrEqual(5000);
    expect(api.watches[1]).toContain('resourceVersion=10');
    expect(api.lists).toHaveLength(1);
  });

  it('an ERROR event that is no 410: the watch goes on from its version', async () => {
    const world = await watching(await startApi());
    world.api.send('ERROR', statusBody(500, 'InternalError'));
    await pass(world, () => world.api.watches.length === 2);
    expect(world.api.lists).toHaveLength(1);
  });

  it('a version too large for the server: a new list', async () => {
    const world = await watching(await startApi());
    world.api.send('ERROR', statusBody(504, 'Timeout', { causes: [{ reason: 'ResourceVersionTooLarge' }] }));
    await pass(world, () => world.api.lists.length === 2);
    expect(world.reflector.state.synced).toBe(true);
  });

  it('watch refused with 403: a new list, and so on', async () => {
    const api = await startApi([namespace('a', '1')]);
    const world = await watching(api);
    api.onWatch = (_, response) => answer(response, 403, statusBody(403, 'Forbidden'));
    api.end();
    await pass(world, () => api.lists.length === 2);
    expect(world.store.size).toBe(1);
  });

  it('a watch that ends at once is no spin', async () => {
    const api = await startApi();
    api.onWatch = (_, response) => answer(response, 200, '');
    const world = await start(api);
    await until(() => world.reflector.state.error !== null);
    expect(world.reflector.state.error).toMatchObject({ code: 'ShortWatch' });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(api.watches).toHaveLength(1);
    await pass(world, () => api.watches.length === 2);
    expect(api.lists).toHaveLength(1);
  });

  it('an idle connection that was closed under us costs nothing', async () => {
    const world = await watching(await startApi());
    for (const socket of world.api.server.sockets) socket.destroy();
    await pass(world, () => world.api.watches.length === 2);
    expect(world.api.lists).toHaveLength(1);
  });
});

describe('silence', () => {
  it('of 150 s is a dead watch: a new list without a version, and a lower one is taken', async () => {
    const world = await watching(await startApi([namespace('a', '5'), namespace('b', '6')], '1000'));
    world.api.objects = [namespace('a', '3')];
    world.api.version = '4';
    await world.clock.advance(149_000);
    expect(world.api.lists).toHaveLength(1);
    await world.clock.advance(1000);
    await until(() => world.api.watches.length === 2);
    expect(world.api.lists).toEqual(['limit=500', 'limit=500']);
    expect(world.api.watches[1]).toContain('resourceVersion=4&');
    expect(world.changes).toEqual(['added a', 'added b', 'deleted b', 'modified a']);
  });

  it('of many watches that are cut before their first bookmark is the same', async () => {
    const world = await watching(await startApi());
    for (let times = 1; times <= 3; times++) {
      await world.api.open();
      await world.clock.advance(50_000);
      expect(world.api.lists).toHaveLength(1);
      world.api.end();
      await until(() => world.api.watches.length === times + 1);
    }
    expect(world.api.lists).toHaveLength(2);
    expect(world.reflector.state.error).toBe(null);
  });

  it('is broken by any byte', async () => {
    const world = await watching(await startApi());
    for (let i = 0; i < 4; i++) {
      await world.clock.advance(100_000);
      const before = world.reflector.state.staleMs;
      world.api.send('BOOKMARK', { metadata: { resourceVersion: '11' } });
      await until(() => world.reflector.state.staleMs < before);
    }
    expect(world.api.watches).toHaveLength(1);
  });
});

describe('bugs of others', () => {
  it('a listener that throws is told, and stops nobody', async () => {
    const world = await watching(await startApi());
    world.store.subscribe(() => {
      throw new Error('bug');
    });
    world.reflector.onStateChange(() => {
      throw new Error('bug');
    });
    world.api.send('ADDED', namespace('a', '11'));
    world.api.send('ADDED', namespace('b', '12'));
    await until(() => world.store.size === 2);
    expect(world.log.lines.filter(({ level }) => level === 'error')).toHaveLength(2);
  });

  it('an object that reduce cannot read stays as it was', async () => {
    const api = await startApi([namespace('a', '1', { team: 'x' })]);
    const world = await watching(api, {
      reduce: ({ metadata }) => {
        if (metadata.labels?.['team'] === 'bad') throw new Error('bug');
        return { name: metadata.name, team: metadata.labels?.['team'] };
      },
    });
    api.objects = [namespace('a', '2', { team: 'bad' }), namespace('b', '3', { team: 'bad' })];
    world.reflector.relist();
    await until(() => api.lists.length === 2);
    await api.open();
    expect([...world.store.values()]).toEqual([{ name: 'a', team: 'x' }]);
  });
});

describe('an object that is looked up past the watch', () => {
  const path = '/api/v1/namespaces/a';
  const answering = async (object: KubeObject | null, before: (world: World) => Promise<void> = async () => {}) => {
    const world = await watching(await startApi([namespace('a', '1'), namespace('b', '2')]));
    world.api.onList = (_, response) => {
      world.api.onList = null;
      const body = object ?? statusBody(404, 'NotFound');
      void before(world).then(() =>
        answer(response, object ? 200 : 404, { apiVersion: 'v1', kind: 'Namespace', ...body }),
      );
    };
    return { ...world, isTaken: await world.reflector.lookUp('a', path) };
  };

  it('is taken into the store', async () => {
    const { store, changes, isTaken } = await answering(namespace('a', '7', { team: 'x' }));
    expect([isTaken, store.get('a')?.team, changes.at(-1)]).toEqual([true, 'x', 'modified a']);
  });

  it('is out of it where it is gone', async () => {
    const { store, changes, isTaken } = await answering(null);
    expect([isTaken, store.get('a'), changes.at(-1)]).toEqual([true, undefined, 'deleted a']);
  });

  it('is taken as well where the watch shows others meanwhile, but not where it shows the same', async () => {
    const shown = (name: string) => async (world: World) => {
      world.api.send('MODIFIED', namespace(name, '11', { team: 'watched' }));
      await until(() => world.store.get(name)?.team === 'watched');
    };
    expect((await answering(namespace('a', '7'), shown('b'))).isTaken).toBe(true);
    const { store, isTaken } = await answering(namespace('a', '7'), shown('a'));
    expect([isTaken, store.get('a')?.team]).toEqual([false, 'watched']);
  });
});

it('tells when its state changes', async () => {
  const api = await startApi();
  api.onList = (_, response) => answer(response, 404, '404 page not found');
  const world = await start(api);
  const seen: string[] = [];
  world.reflector.onStateChange(() => {
    const { synced, listStatus, error } = world.reflector.state;
    seen.push(`${synced} ${listStatus} ${error === null ? 'ok' : 'error'}`);
  });
  await until(() => world.reflector.state.error !== null);
  api.onList = null;
  world.reflector.relist();
  await until(() => world.reflector.state.synced);
  expect(seen.at(-1)).toBe('true 200 ok');
  expect(seen).toContain('false 404 error');
});

it('tells of a failure that goes on once', async () => {
  const api = await startApi();
  const world = await watching(api);
  let changes = 0;
  world.reflector.onStateChange(() => (changes += 1));
  let refused = 0;
  api.onWatch = (_, response) => {
    refused += 1;
    answer(response, 503, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 503, reason: 'Unavailable' });
  };
  api.end();
  await pass(world, () => refused === 4);
  expect(changes).toBe(1);
});

it('relist during a list lists once more after it', async () => {
  const api = await startApi();
  let release = (): void => undefined;
  api.onList = (_, response) => {
    api.onList = null;
    release = () => answer(response, 200, { kind: 'List', metadata: { resourceVersion: '5' }, items: [] });
  };
  const world = await start(api);
  await until(() => api.lists.length === 1);
  world.reflector.relist();
  world.reflector.relist();
  api.objects = [namespace('a', '1')];
  release();
  await api.open();
  expect(api.lists).toHaveLength(2);
  expect(world.store.size).toBe(1);
});

it('stops: the watch ends, no timer stays, nothing is asked any more', async () => {
  const world = await watching(await startApi());
  await world.reflector.stop();
  await until(() => world.clock.pending === 0);
  await world.clock.advance(300_000);
  expect([world.api.lists.length, world.api.watches.length]).toEqual([1, 1]);
  await world.reflector.stop();
});
