import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import {
  accountPath,
  conditionOf,
  createNamespaces,
  entriesOf,
  resource,
  resourcePath,
  secretPath,
} from '../cluster/served.ts';
import type { PullSecretResource } from '../cluster/served.ts';
import { atEveryRequest } from './endure.ts';
import { Night } from './night.ts';
import { coalesced } from './streams.ts';

// What comes and goes while the watches show nothing is seen as its last state alone, under another UID.

let night: Night;
let namespaces: string[];
let release: () => Promise<void>;

const spec = {
  namespaces: {
    selector: { matchExpressions: [{ key: 'ecr', operator: 'NotIn', values: ['off'] }] },
    names: ['team-*'],
  },
  verification: { mode: 'Disabled' },
};

beforeAll(async () => {
  night = await Night.begin();
  namespaces = await createNamespaces(night.admin, 3);
  await night.admin.create(resource('production', spec));
  await Promise.all([night.startReplica(), night.startReplica()]);
});
afterAll(() => night?.end());

beforeEach(async () => {
  await night.whole(namespaces);
  night.mark();
  const gate = Promise.withResolvers<void>();
  const end = await atEveryRequest(({ isWatch }) => (isWatch ? { body: coalesced(gate.promise) } : null))(night);
  await eventually('every watch is open again', () =>
    night.replicas.every(({ proxy }) => proxy.requests.slice(-50).filter(({ isWatch }) => isWatch).length >= 6),
  );
  release = async () => {
    gate.resolve();
    await end();
  };
});

const [first, second] = ['team-0', 'team-1'];

/** Deleted, gone, and made again as it was first made. */
async function again(path: string, made: KubeObject): Promise<void> {
  await night.admin.delete(path);
  await night.admin.waitForAbsence(path, 60_000);
  await night.admin.create(made);
}

/** The watches show the rest: what was broken until all is as it should be. */
async function settled(): Promise<string[]> {
  await release();
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
});
