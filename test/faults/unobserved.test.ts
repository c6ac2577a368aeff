import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { annotations } from '../../src/api/groupVersion.ts';
import { dockerConfigJson, hashOfEntry } from '../../src/core/dockerConfig.ts';
import { ecrHost } from '../cluster/door.ts';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import {
  accountPath,
  authIn,
  conditionOf,
  createNamespace,
  createNamespaces,
  entriesOf,
  resource,
  resourcePath,
  secretPath,
  told,
  waitForCondition,
  type PullSecretResource,
} from '../cluster/served.ts';
import type { IssuedToken } from '../cluster/standInEcr.ts';
import { atEveryRequest } from './endure.ts';
import { Night } from './night.ts';
import { coalesced } from './streams.ts';

// What comes and goes while the watches show nothing is seen as its last state alone, under another UID.

let night: Night;
let namespaces: string[];
let release: () => Promise<void>;
let old: IssuedToken; // alive, but not the newest

const unselected = 'team-off';

const spec = {
  namespaces: {
    selector: { matchExpressions: [{ key: 'ecr', operator: 'NotIn', values: ['off'] }] },
    names: ['team-*'],
  },
  verification: { mode: 'Disabled' },
};

beforeAll(async () => {
  // What is removed by mistake is removed at once, not when the test is over.
  night = await Night.begin({ args: ['--removal-delay=0s'] });
  old = night.ecr.issue();
  namespaces = await createNamespaces(night.admin, 3);
  await createNamespace(night.admin, unselected);
  await night.admin.patch(`/api/v1/namespaces/${unselected}`, { metadata: { labels: { ecr: 'off' } } });
  await night.admin.create(resource('production', spec));
  await Promise.all([night.startReplica(), night.startReplica()]);
});
afterAll(() => night?.end());

beforeEach(async () => {
  await night.whole(namespaces);
  night.mark();
  const gate = Promise.withResolvers<void>();
  const since = new Map(night.replicas.map(({ proxy }) => [proxy, proxy.requests.length]));
  const end = await atEveryRequest(({ isWatch }) => (isWatch ? { body: coalesced(gate.promise) } : null))(night);
  // One that opens only when the gate does would show everything.
  await eventually('every watch is open again', () =>
    night.replicas.every(({ proxy }) => {
      const ofNow = proxy.requests
        .slice(since.get(proxy))
        .filter(({ isWatch, endedAt }) => isWatch && endedAt === null);
      return new Set(ofNow.map(({ path }) => path.split('?')[0])).size >= 6;
    }),
  );
  release = async () => {
    await sleep(500); // what happened last is held, too
    gate.resolve();
    await end();
  };
});

const [first, second] = ['team-0', 'team-1'];

/** Deleted, gone, and made again as it was first made. */
async function again(path: string, made: KubeObject): Promise<KubeObject> {
  await night.admin.delete(path);
  await night.admin.waitForAbsence(path, 60_000);
  return night.admin.create(made);
}

/** The watches show the rest: what was broken until all is as it should be. */
async function settled(): Promise<string[]> {
  await release();
  await sleep(1_000); // so that a removal, which does not wait, is not yet to come
  await night.whole(namespaces);
  const deleted = [...night.counts()].filter(([, count]) => count.deleted > 0);
  return [...(await night.violations()), ...deleted.map(([key]) => `the operator deleted ${key}`)];
}

test('a namespace that was deleted and made again is served', async () => {
  await again(`/api/v1/namespaces/${first}`, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: first } });
  expect(await settled()).toEqual([]);
});

test('a ServiceAccount that was deleted and made again has its entry, beside one of others', async () => {
  const metadata = { name: 'default', namespace: first };
  await night.admin.delete(accountPath(first));
  const path = `/api/v1/namespaces/${first}/serviceaccounts`;
  const body = { apiVersion: 'v1', kind: 'ServiceAccount', metadata, imagePullSecrets: [{ name: 'foreign' }] };
  await night.admin.request('POST', path, { body });
  const before = entriesOf(await night.admin.get(accountPath(first)));
  expect(await settled()).toEqual([]);
  expect(entriesOf(await night.admin.get(accountPath(first)))).toEqual([...before, 'ecr-pull']);
});

test('a resource that was deleted and made again is no removal', async () => {
  await again(resourcePath(), resource('production', spec));
  expect(await settled()).toEqual([]);
});

test('a label that came and went is none', async () => {
  await night.admin.patch(`/api/v1/namespaces/${second}`, { metadata: { labels: { ecr: 'off' } } });
  await night.admin.patch(`/api/v1/namespaces/${second}`, { metadata: { labels: { ecr: null } } });
  expect(await settled()).toEqual([]);
});

test('a label that went and came again, of a namespace that is not selected, serves nobody', async () => {
  await night.admin.patch(`/api/v1/namespaces/${unselected}`, { metadata: { labels: { ecr: null } } });
  await night.admin.patch(`/api/v1/namespaces/${unselected}`, { metadata: { labels: { ecr: 'off' } } });
  expect(await settled()).toEqual([]);
  expect(told(night.writes()).filter((write) => write.includes(unselected))).toEqual([]);
});

test('a Secret of ours that came again from a copy with our marks and an older token gets the newest, and stays the one that came', async () => {
  const { metadata, ...secret } = await night.admin.read(secretPath(first));
  const { auth } = old;
  const marks = { ...metadata.annotations, [annotations.hosts]: JSON.stringify({ [ecrHost]: hashOfEntry({ auth }) }) };
  const config = dockerConfigJson(new Map([[ecrHost, { auth }]]));
  const copy = await again(secretPath(first), {
    ...secret,
    metadata: { name: metadata.name, namespace: first, labels: metadata.labels ?? {}, annotations: marks },
    data: { '.dockerconfigjson': Buffer.from(config).toString('base64') },
  });
  expect(copy.metadata.uid).not.toBe(metadata.uid);
  expect(authIn(copy)).toBe(auth);
  expect(await settled()).toEqual([]);
  expect((await night.admin.read(secretPath(first))).metadata.uid).toBe(copy.metadata.uid);
});

test('a Secret of ours in whose place there is somebody else’s is left alone and told', async () => {
  const metadata = { name: 'ecr-pull', namespace: second };
  const data = { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') };
  await again(secretPath(second), {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata,
    type: 'kubernetes.io/dockerconfigjson',
    data,
  });
  const foreign = await night.admin.get(secretPath(second));
  await release();
  await eventually('it is told', async () => {
    const object = await night.admin.get<PullSecretResource>(resourcePath());
    return conditionOf(object, 'Blocked')?.status === 'True';
  });
  expect((await night.admin.get(secretPath(second)))?.metadata.resourceVersion).toBe(foreign?.metadata.resourceVersion);
  expect(await night.violations()).toEqual([]);
  await night.admin.delete(secretPath(second));
});

test('afterwards nothing is written, and AWS was asked once in all', async () => {
  expect(await settled()).toEqual([]);
  await waitForCondition(night.admin, 'Ready', ({ status }) => status === 'True');
  expect(await night.quiet()).toEqual([]);
  expect(night.ecr.calls).toHaveLength(1);
});
