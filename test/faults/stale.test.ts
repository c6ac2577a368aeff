import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ApiServerProxy, Fault, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import { eventually } from '../cluster/eventually.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { askForRefresh, accountPath, entriesOf, secretPath } from '../cluster/served.ts';
import { collections, everyWatchStands } from '../cluster/watched.ts';
import { atEveryRequest, Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';
import { StaleServer } from './staleServer.ts';

// The operator reads from an API server that sees nothing of what happens, and writes to one that sees all.

let night: Night;
let endurance: Endurance;
let stale: StaleServer;

const lastsMs = scaled(25_000, 5_000);
const kept = 'stale-kept'; // its Secret is taken by somebody else and given back, so that it is made once more
const isExplained = (broken: string) => broken === `secrets ${kept}/ecr-pull: made 1 times, 0 without the fault`;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
  await endurance.serve(kept);
  stale = await StaleServer.start(night.cluster);
});
afterAll(async () => {
  await stale?.close();
  await night?.end();
});

afterEach(() => seeing());

type Route = (request: ProxiedRequest) => Fault | null;

/** Every watch is cut, and comes back to the stale server. */
function reconnected(route: () => Route): Begin {
  return async (night) => {
    stale.pause();
    const end = await atEveryRequest(route())(night);
    return async () => {
      stale.resume();
      await end();
    };
  };
}

/** Between the rounds everything is read from the other server again. */
async function seeing(): Promise<void> {
  stale.resume();
  for (const path of collections) {
    // From its cache, each kind's as new as the newest of them: what is no event of the kind does not move it before 1.31.
    const versions = (await night.admin.list(path)).map(({ metadata }) => BigInt(metadata.resourceVersion ?? 0));
    const resourceVersion = String(versions.reduce((a, b) => (a > b ? a : b), 0n));
    const query = { resourceVersion, resourceVersionMatch: 'NotOlderThan' };
    const sees = async () => (await stale.admin.request('GET', path, { query, timeoutMs: 5_000 })).status === 200;
    await eventually(`it sees what happens at ${path}`, sees, 120_000); // its client of etcd has a back-off of its own
  }
  for (const { proxy } of night.replicas) proxy.reset();
}

/** In a namespace of life: what was ours is somebody else's. */
async function takeOver(): Promise<void> {
  await night.admin.delete(secretPath(kept));
  const data = { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') };
  const metadata = { name: 'ecr-pull', namespace: kept };
  await night.admin.create({
    ...{ apiVersion: 'v1', kind: 'Secret', metadata, type: 'kubernetes.io/dockerconfigjson', data },
  });
}

/** Requests that would write it, through any proxy. */
function tries(): number {
  const isTry = ({ method, path }: ProxiedRequest) => method !== 'GET' && path.startsWith(secretPath(kept));
  return night.replicas.flatMap(({ proxy }) => proxy.requests.filter(isTry)).length;
}

describe('while the API server that it reads from sees nothing that happens, the operator', () => {
  test('whose watches come back to it misses nothing in the end', async () => {
    expect(
      await endurance.under(
        reconnected(() => stale.views),
        { lastsMs },
      ),
    ).toEqual([]);
  });

  test('that has seen more before goes on from there', async () => {
    stale.pause(); // before the round: the watches begin at a version that it has never seen
    expect(
      await endurance.under(
        reconnected(() => stale.views),
        { lastsMs },
      ),
    ).toEqual([]);
  });

  test('that gets a fresh token writes it nowhere by a view that is over', async () => {
    const held = Promise.withResolvers<void>();
    let before = 0;
    const begin: Begin = async (night) => {
      night.ecr.hold = held.promise;
      const calls = night.ecr.calls.length;
      await askForRefresh(night.admin);
      await eventually('AWS is asked', () => night.ecr.calls.length > calls);
      const cutAt = Date.now();
      const end = await reconnected(() => stale.views)(night);
      const proxies = night.replicas.map(({ proxy }) => proxy);
      await everyWatchStands(proxies, { of: ['/api/v1/secrets'], since: cutAt }); // where they do not, it reads past them
      await takeOver();
      before = tries();
      held.resolve();
      return async () => {
        night.ecr.hold = null;
        await night.admin.delete(secretPath(kept));
        await end();
      };
    };
    const during = async () => void (await eventually('it is tried', () => tries() > before));
    const broken = await endurance.under(begin, { lastsMs, during, calls: 1 });
    expect(broken.filter((text) => !isExplained(text))).toEqual([]);
  });

  test('that takes over from a leader that dies does no harm by an old view', async () => {
    const begin: Begin = async (night) => {
      const end = await reconnected(() => stale.views)(night);
      await (await night.leader()).operator.kill();
      return end;
    };
    const during = async () => void (await night.leader());
    expect(await endurance.under(begin, { lastsMs: scaled(25_000, 20_000), during })).toEqual([]);
    await night.startReplica();
  });
});

describe('while the operator starts and the API server that it reads from sees nothing that happens, it', () => {
  /** Both are killed, `before` is done, and two start that read by this route. */
  const started =
    (route: () => Route, before: () => Promise<void>): Begin =>
    async (night) => {
      await night.killAll();
      await before();
      const prepare = (proxy: ApiServerProxy) => void (proxy.fault = route());
      for (let count = 0; count < 2; count++) await night.startReplica({ waitUntilReady: false, prepare });
      return async () => {
        stale.resume();
        for (const { operator, proxy } of night.replicas) {
          proxy.fault = () => null;
          await operator.waitUntilReady();
        }
      };
    };

  test('is alive, not ready, and writes nothing', async () => {
    const begin = started(
      () => stale.reads,
      () => Promise.resolve(stale.pause()),
    );
    const during = async () => {
      for (const { operator } of night.replicas) {
        await eventually('it listens', () => operator.health('healthz'));
        expect((await operator.health('healthz')).status).toBe(200);
      }
      await night.leader();
      for (const { operator } of night.replicas) expect((await operator.health('readyz')).status).not.toBe(200);
      expect(night.writes().filter(({ objectRef }) => objectRef?.resource === 'serviceaccounts')).toEqual([]);
    };
    expect(await endurance.under(begin, { lastsMs, during })).toEqual([]);
  });

  test.runIf(isLong)('and is even shown old lists does no harm', async () => {
    const begin = started(
      () => stale.oldViews,
      async () => {
        await night.admin.delete(secretPath(kept));
        await night.admin.patch(accountPath(kept), { imagePullSecrets: [] });
        await eventually('the stale server has seen it', async () => {
          const query = { resourceVersion: '0' };
          const secrets = await stale.admin.list(`/api/v1/namespaces/${kept}/secrets`, query);
          const accounts = await stale.admin.list(`/api/v1/namespaces/${kept}/serviceaccounts`, query);
          return secrets.length === 0 && accounts.every((account) => entriesOf(account).length === 0);
        });
        stale.pause();
        await takeOver();
        const imagePullSecrets = [{ name: 'foreign' }, { name: 'ecr-pull' }];
        await night.admin.patch(accountPath(kept), { imagePullSecrets });
      },
    );
    const withForeign: Begin = async (night) => {
      const end = await begin(night);
      return async () => {
        await night.admin.delete(secretPath(kept));
        await end();
      };
    };
    const during = async () => void (await eventually('it is tried', () => tries() > 0));
    const broken = await endurance.under(withForeign, { lastsMs, during });
    expect(broken.filter((text) => !isExplained(text))).toEqual([]);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.quiet()).toEqual([]);
});
