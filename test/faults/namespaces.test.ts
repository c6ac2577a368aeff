import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Fault, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import {
  accountPath,
  createNamespace,
  resourcePath,
  secretPath,
  told,
  waitUntilServed,
  type PullSecretResource,
} from '../cluster/served.ts';
import { atEveryRequest, Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';
import { Pace } from './pace.ts';

// Namespaces that go while they are written to, and some that never quite go.

let night: Night;
let endurance: Endurance;
let pace: Pace;
let count = 0;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
  pace = await Pace.of(night, endurance);
});
afterAll(() => night?.end());

const namespacePath = (name: string) => `/api/v1/namespaces/${name}`;
const make = (name: string) =>
  night.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } }).then(() => undefined);

/** Whether this is a write to the one object of a namespace. */
const isWriteTo = ({ method, path }: ProxiedRequest, object: string) =>
  method === 'PATCH' && path.startsWith(`${object}?`);

/** What the operator has warned of in a namespace. */
function warnings(namespace: string): string[] {
  return night.replicas.flatMap(({ operator }) =>
    operator
      .logs((line) => ['warn', 'error'].includes(line.level) && JSON.stringify(line).includes(namespace))
      .map(({ message }) => message),
  );
}

/** The fault's own namespace has no like in the reference: its Secret is made so often. */
const but = (name: string, times: number, broken: readonly string[]) =>
  broken.filter((text) => text !== `secrets ${name}/ecr-pull: made ${times} times, 0 without the fault`);

describe('while a namespace is deleted in the moment in which the operator', () => {
  const objects: Record<string, (namespace: string) => string> = {
    'writes its Secret': secretPath,
    'writes its ServiceAccount': accountPath,
  };
  const moments = [
    ['before', 'the API server has the write'],
    ['after', 'it has answered'],
  ] as const;
  const cases = Object.entries(objects).flatMap(([what, path]) =>
    moments.map(([when, then]) => [what, when, then, path] as const),
  );

  test.each(cases)('%s, %s %s, it lets go of it and warns of nothing', async (_, when, __, pathOf) => {
    const name = `going-${(count += 1)}`;
    let deletions = 0;
    const deletion = async () => {
      if (deletions++ === 0) await night.admin.delete(namespacePath(name));
    };
    const fault: Fault = when === 'before' ? { before: deletion } : { after: deletion };
    const begin: Begin = async (night) => {
      const end = await atEveryRequest((request) => (isWriteTo(request, pathOf(name)) ? fault : null), {
        reset: false,
      })(night);
      await make(name);
      return async () => {
        await night.admin.waitForAbsence(namespacePath(name), 60_000);
        await end();
      };
    };
    const broken = await endurance.under(begin, { lastsMs: 2_000, during: () => pace.isKept([name]) });
    expect(but(name, 1, broken)).toEqual([]);
    expect(deletions).toBeGreaterThan(0);
    expect(warnings(name)).toEqual([]);
  });

  test('writes its Secret, and is there again at once, the new one is served', async () => {
    const name = `again-${(count += 1)}`;
    let returned: Promise<void> | null = null;
    const replace = async () => {
      if (returned !== null) return;
      await night.admin.delete(namespacePath(name));
      returned = night.admin.waitForAbsence(namespacePath(name), 60_000).then(() => createNamespace(night.admin, name));
    };
    const begin: Begin = async (night) => {
      const end = await atEveryRequest(
        (request) => (isWriteTo(request, secretPath(name)) ? { after: replace } : null),
        { reset: false },
      )(night);
      await make(name);
      await eventually('it was deleted', () => returned !== null);
      return async () => {
        await returned;
        await end();
        endurance.alsoServes(name);
      };
    };
    const broken = await endurance.under(begin, { lastsMs: 2_000, during: () => pace.isKept([name]) });
    expect(but(name, 2, broken)).toEqual([]);
    expect(warnings(name)).toEqual([]);
  });
});

describe('while a namespace is held on its way out', () => {
  const finalizers = ['example.org/keep'];
  const lastsMs = scaled(60_000, 8_000);

  /** Served, then deleted, with something in it that never goes. */
  async function hold(name: string, path: string, object: KubeObject | null): Promise<void> {
    await createNamespace(night.admin, name);
    await waitUntilServed(night.admin, [name]);
    if (object !== null) await night.admin.create(object);
    await night.admin.patch(path, { metadata: { finalizers } });
    await night.admin.delete(namespacePath(name));
    await night.admin.waitForAbsence(accountPath(name), 60_000);
  }

  /** Neither a write nor an event, and the status does not count it. */
  async function isLeftAlone(name: string): Promise<void> {
    const since = night.cluster.auditMark();
    const served = endurance.namespaces.length;
    const isCounted = ({ status }: PullSecretResource) => status?.namespacesReady === `${served}/${served}`;
    await night.admin.waitFor<PullSecretResource>(resourcePath(), isCounted);
    if (isLong) {
      await (await night.leader()).operator.stop();
      await night.leader();
      await night.startReplica();
    }
    await sleep(lastsMs);
    expect(told(night.writes(since).filter(({ objectRef }) => objectRef?.namespace === name))).toEqual([]);
    expect((await night.admin.get<PullSecretResource>(resourcePath()))?.status?.failures).toEqual([]);
    expect(warnings(name)).toEqual([]);
  }

  /** Let go, gone, and there again at once. */
  async function letGo(name: string, path: string): Promise<void> {
    await night.admin.patch(path, { metadata: { finalizers: null } });
    await night.admin.waitForAbsence(namespacePath(name), 60_000);
    await createNamespace(night.admin, name);
    endurance.alsoServes(name);
  }

  test('by a foreign object, it is left alone, and served when it is there again', async () => {
    const name = `held-${(count += 1)}`;
    const path = `${namespacePath(name)}/configmaps/kept`;
    const kept = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kept', namespace: name } };
    const begin: Begin = async () => {
      await hold(name, path, kept);
      return () => letGo(name, path);
    };
    const during = async () => {
      await pace.isKept([name]);
      await isLeftAlone(name);
    };
    const broken = await endurance.under(begin, { lastsMs: 0, during });
    expect(but(name, 2, broken)).toEqual([]);
  });

  test('by a finalizer that somebody put on our Secret, it is left alone, and served when it is there again', async () => {
    const name = `held-${(count += 1)}`;
    const begin: Begin = async () => {
      await hold(name, secretPath(name), null);
      return () => letGo(name, secretPath(name));
    };
    const during = async () => {
      // Its content is somebody else's now, and still nobody's business.
      await night.admin.patch(secretPath(name), { metadata: { labels: { foreign: 'yes' } } }, { manager: 'mallory' });
      await isLeftAlone(name);
    };
    const broken = await endurance.under(begin, { lastsMs: 0, during });
    expect(but(name, 2, broken)).toEqual([]);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
