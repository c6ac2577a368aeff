import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultSecretName } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { operatorUser } from '../cluster/operator.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { askForRefresh, accountPath, authIn, secretPath, waitForToken, waitUntilServed } from '../cluster/served.ts';
import { atEveryRequest, Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';

// Others put Secrets with our marks where they like: from a backup, or as clones.

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

/** As a backup keeps it: with our marks, without uid, version and managedFields. */
async function backupOf(namespace: string): Promise<KubeObject> {
  const { type, data, metadata } = await night.admin.read(secretPath(namespace));
  const { name, labels, annotations } = metadata;
  return {
    ...{ apiVersion: 'v1', kind: 'Secret', type, data },
    metadata: { name, ...(labels && { labels }), ...(annotations && { annotations }) },
  };
}

function placed({ metadata, ...rest }: KubeObject, namespace: string): KubeObject {
  return { ...rest, metadata: { ...metadata, namespace } };
}

/** POST, and where there is one already, a patch: as Velero does it with its policy `update`. */
async function restore(backup: KubeObject, namespace: string): Promise<void> {
  const object = placed(backup, namespace);
  const options = { body: object, query: { fieldManager: 'velero-server' } };
  const { status } = await night.admin.request('POST', `/api/v1/namespaces/${namespace}/secrets`, options);
  if (status === 409) await night.admin.patch(secretPath(namespace), object, { manager: 'velero-server' });
  else if (status !== 201) throw new Error(`not restored: ${status}`);
}

describe('while an old Secret of ours with its marks is restored from a backup', () => {
  let backup: KubeObject;

  beforeAll(async () => {
    const { admin, ecr } = night;
    backup = await backupOf('team-0');
    await ecr.rested();
    await askForRefresh(admin);
    await eventually('a newer token is there', () => ecr.issued.at(-1)?.auth !== authIn(backup));
    await waitForToken(admin, { namespaces: endurance.namespaces, auth: () => ecr.issued.at(-1)?.auth });
  });

  const uidOf = async (namespace: string) => (await night.admin.read(secretPath(namespace))).metadata.uid;

  test('over the one that is there, it becomes the newest again and keeps its uid', async () => {
    const before = await uidOf('team-0');
    const begin: Begin = async () => {
      await restore(backup, 'team-0');
      return () => undefined;
    };
    expect(await endurance.under(begin, { lastsMs: 1_000 })).toEqual([]);
    expect(await uidOf('team-0')).toBe(before);
  });

  test('with all managedFields stripped, it becomes the newest again and keeps its uid', async () => {
    const before = await uidOf('team-1');
    const begin: Begin = async ({ admin }) => {
      const object = placed(backup, 'team-1');
      await admin.patch(secretPath('team-1'), { ...object, metadata: { ...object.metadata, managedFields: [{}] } });
      return () => undefined;
    };
    expect(await endurance.under(begin, { lastsMs: 1_000 })).toEqual([]);
    expect(await uidOf('team-1')).toBe(before);
  });

  test('with the annotation of the newest, its data are seen to be others, and it becomes the newest', async () => {
    const { annotations = {} } = (await night.admin.read(secretPath('team-2'))).metadata;
    const begin: Begin = async () => {
      await restore({ ...backup, metadata: { ...backup.metadata, annotations } }, 'team-2');
      return () => undefined;
    };
    expect(await endurance.under(begin, { lastsMs: 1_000 })).toEqual([]);
  });

  test('into a namespace that is made anew with it, before the operator’s own gets there, it becomes the newest and keeps its uid', async () => {
    const namespace = 'restored';
    let restored: string | undefined;
    const begin: Begin = async (night) => {
      const { admin } = night;
      const isThere = Promise.withResolvers<void>();
      const end = await atEveryRequest(
        ({ method, path }) => {
          return method === 'PATCH' && path.startsWith(secretPath(namespace))
            ? { before: () => isThere.promise }
            : null;
        },
        { reset: false },
      )(night);
      await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
      await restore(backup, namespace);
      restored = await uidOf(namespace);
      isThere.resolve();
      const imagePullSecrets = [{ name: defaultSecretName }];
      const body = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default' }, imagePullSecrets };
      const { status } = await admin.request('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, { body });
      if (status === 409) await admin.patch(accountPath(namespace), { imagePullSecrets });
      endurance.alsoServes(namespace);
      return end;
    };
    expect(await endurance.under(begin, { lastsMs: 1_000 })).toEqual([]);
    expect(await uidOf(namespace)).toBe(restored);
  });

  test('into a namespace that is not selected, it is removed', async () => {
    const begin: Begin = async ({ admin }) => {
      await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'kube-restored' } });
      await restore(backup, 'kube-restored');
      return () => admin.waitForAbsence(secretPath('kube-restored'));
    };
    const broken = await endurance.under(begin, { lastsMs: 6_000 });
    expect(broken).toEqual(['secrets kube-restored/ecr-pull: deleted 1 times, 0 without it']);
  });
});

describe('while a policy engine clones our Secret into a namespace that is not selected, each time it is removed', () => {
  const namespace = 'kube-clones';
  const lastsMs = scaled(240_000, 42_000);

  function engine(): Begin {
    return async ({ admin }) => {
      await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
      const stop = new AbortController();
      const options = async () => {
        const body = placed(await backupOf('team-0'), namespace);
        return { body, query: { fieldManager: 'kyverno' } };
      };
      const cloning = (async () => {
        while (!stop.signal.aborted) {
          if ((await admin.get(secretPath(namespace))) === null) {
            await admin.request('POST', `/api/v1/namespaces/${namespace}/secrets`, await options());
          }
          await sleep(10);
        }
      })();
      return async () => {
        stop.abort();
        await cloning;
      };
    };
  }

  test('the operator removes it ever more slowly, tells so once, and serves all others meanwhile', async () => {
    const { admin, cluster } = night;
    const from = Date.now();
    const since = cluster.auditMark();
    const during = () => waitUntilServed(admin, endurance.namespaces, 5_000);
    const broken = await endurance.under(engine(), { lastsMs, during });
    expect(broken).toEqual([expect.stringMatching(/^secrets kube-clones\/ecr-pull: deleted \d+ times, 0 without it$/)]);

    const removals = cluster
      .auditEvents({ user: operatorUser, resource: 'secrets', namespace, verb: 'delete', since })
      .map(({ requestReceivedTimestamp }) => Date.parse(requestReceivedTimestamp))
      .filter((time) => time < from + lastsMs);
    const gaps = removals.slice(1).map((time, i) => time - (removals[i] ?? 0));
    // After 5 s each at first, then after 8, 16, 32 and 60 s.
    expect(removals.length).toBeGreaterThanOrEqual(4);
    expect(removals.length).toBeLessThanOrEqual(isLong ? 13 : 8);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(4_900);
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(isLong ? 30_000 : 7_500);

    const events = await admin.list<KubeObject & { type: string; reason: string; note: string }>(
      `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
    );
    const told = events.map(({ type, reason, note }) => `${type} ${reason}: ${note}`);
    expect(told).toEqual([
      expect.stringMatching(/^Warning CloneRemoved: .* by kyverno, .*: leave it out of what clones/),
    ]);
    // What it wrote there was nothing but these removals.
    const writes = night.writes(since).filter(({ objectRef }) => objectRef?.namespace === namespace);
    expect(writes.filter(({ verb, objectRef }) => verb !== 'delete' && objectRef?.resource !== 'events')).toEqual([]);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.quiet()).toEqual([]);
});
