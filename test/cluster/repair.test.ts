import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { annotations, labels } from '../../src/api/groupVersion.ts';
import { ApiServerProxy } from './apiServerProxy.ts';
import { type AuditEvent, defaultAuditPolicy } from './auditLog.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi, KubeObject } from './kubeApi.ts';
import { installDeploy, operatorUser, startOperator, type Operator } from './operator.ts';
import {
  accountPath,
  createNamespaces,
  entriesOf,
  resource,
  secretPath,
  servingWrites,
  told,
  waitForCondition,
  waitUntilServed,
} from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// Whatever somebody does to our Secret or our entry, it is right again within seconds, and no Secret is read for it.

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let proxy: ApiServerProxy;
let operator: Operator;

interface Damage {
  what: string;
  damage: (namespace: string) => Promise<unknown>;
  /** The Secret must be made anew: its UID is another one. */
  isNew?: boolean;
  /** The list in the end, where it is not ours alone. */
  entries?: string[];
}

const damages: Damage[] = [
  { what: 'the Secret was edited', damage: (name) => editSecret(name, { data: { '.dockerconfigjson': 'e30=' } }) },
  { what: 'the Secret was deleted', damage: (name) => admin.delete(secretPath(name)), isNew: true },
  { what: 'the Secret was made immutable', damage: (name) => editSecret(name, { immutable: true }), isNew: true },
  {
    what: 'the Secret was edited and made immutable',
    damage: (name) => editSecret(name, { immutable: true, data: { '.dockerconfigjson': 'e30=' } }),
    isNew: true,
  },
  { what: 'managedFields were stripped', damage: (name) => editSecret(name, { metadata: { managedFields: [{}] } }) },
  { what: 'its label was removed', damage: (name) => editLabels(name, { [labels.managedBy]: null }) },
  { what: 'its label was changed', damage: (name) => editLabels(name, { [labels.managedBy]: 'Helm' }) },
  { what: 'another label was removed', damage: (name) => editLabels(name, { [labels.excludeFromBackup]: null }) },
  {
    what: 'the entry was dropped from among others',
    damage: (name) => admin.patch(accountPath(name), { imagePullSecrets: [{ name: 'own' }] }),
    entries: ['own', 'ecr-pull'],
  },
  {
    what: 'a saved ServiceAccount was put back',
    damage: async (name) => {
      const { imagePullSecrets: _, ...account } = await read(accountPath(name));
      await admin.replace({ apiVersion: 'v1', kind: 'ServiceAccount', ...account });
    },
  },
  { what: 'the default ServiceAccount was deleted', damage: (name) => admin.delete(accountPath(name)) },
];
const namespaces = damages.map((_, i) => `team-${i}`);
const cases = damages.map((damage, i) => ({ ...damage, namespace: `team-${i}` }));

beforeAll(async () => {
  cluster = await startCluster({ auditPolicy: withAnswers() });
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  proxy = await ApiServerProxy.start(cluster);
  await installDeploy(cluster);
  await createNamespaces(admin, damages.length);
  await createNamespaces(admin, 2, 'other');
  await admin.create(resource());
  operator = await start();
  await waitUntilServed(admin, [...namespaces, 'other-0', 'other-1']);
  await waitForCondition(admin, 'Ready', ({ status }) => status === 'True');
});
afterAll(async () => {
  await proxy?.close();
  await cluster?.stop();
  await ecr?.close();
});

const start = () => startOperator({ cluster, env: ecr.env, server: proxy.url });

/** With the answers to what the operator asks of Secrets. */
function withAnswers(): string {
  const policy = JSON.parse(defaultAuditPolicy) as { rules: object[] };
  const resources = [{ group: '', resources: ['secrets'] }];
  return JSON.stringify({
    ...policy,
    rules: [{ level: 'RequestResponse', users: [operatorUser], resources }, ...policy.rules],
  });
}

const editSecret = (namespace: string, patch: object) =>
  admin.patch(secretPath(namespace), patch, { manager: 'mallory' });

const editLabels = (namespace: string, edit: object) => editSecret(namespace, { metadata: { labels: edit } });

async function read(path: string): Promise<KubeObject> {
  const object = await admin.get(path);
  if (object === null) throw new Error(`${path} is not there`);
  return object;
}

/** All of a Secret that is ours to say. */
function contentOf({ metadata, type, data, immutable }: KubeObject): object {
  const ours = metadata.managedFields?.find(({ manager }) => manager === 'ecr-pull-secrets');
  const { 'f:immutable': _, ...owned } = ours?.fieldsV1 ?? {};
  return {
    ...{ type, data, owned, operation: ours?.operation, isImmutable: immutable === true },
    ...{ labels: metadata.labels, annotations: metadata.annotations },
  };
}

async function isRightAgain({ namespace, entries = ['ecr-pull'] }: Damage & { namespace: string }, good: object) {
  await eventually(
    `${namespace} is right again`,
    async () => {
      expect(contentOf(await read(secretPath(namespace)))).toEqual(good);
      expect(entriesOf(await admin.get(accountPath(namespace)))).toEqual(entries);
      return true;
    },
    10_000,
  );
}

/** What the operator asked of Secrets, but for its token store and the AWS keys in its own namespace. */
function questions(verb: string[], since = 0): AuditEvent[] {
  return cluster
    .auditEvents({ user: operatorUser, resource: 'secrets', verb, since })
    .filter(({ objectRef, requestURI }) => !/ecr-pull-tokens|aws-credentials/.test(objectRef?.name + requestURI));
}

const wasDone = ({ responseStatus }: AuditEvent) => (responseStatus?.code ?? 0) < 300; // a refusal has no object

const hasData = ({ responseObject }: AuditEvent) => /"(data|stringData)":/.test(JSON.stringify(responseObject ?? {}));

const eventsIn = async (namespace: string) => {
  const events = await admin.list<KubeObject & { type: string; reason: string; note: string }>(
    `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
  );
  return events.map(({ type, reason, note }) => `${type} ${reason}: ${note}`);
};

describe('right again within seconds', () => {
  test.each(cases)('$what', async (damaged) => {
    const { namespace, damage, isNew = false } = damaged;
    const before = await read(secretPath(namespace));
    await damage(namespace);
    await isRightAgain(damaged, contentOf(before));
    const { uid } = (await read(secretPath(namespace))).metadata;
    expect(uid === before.metadata.uid).toBe(!isNew);
  });

  test('all of it again, while the operator was away', async () => {
    const before = await Promise.all(namespaces.map((name) => read(secretPath(name))));
    expect(await operator.stop()).toBe(0);
    await Promise.all(cases.map(({ namespace, damage }) => damage(namespace)));
    operator = await start();
    for (const [i, damaged] of cases.entries()) await isRightAgain(damaged, contentOf(before[i] as KubeObject));
  });

  test('who did it is told by an event', async () => {
    const inTime = (namespace: string, text: RegExp) =>
      eventually(`${namespace} has an event`, async () => (await eventsIn(namespace)).find((told) => text.test(told)));
    await inTime('team-0', /Normal SecretRestored: .* was changed by mallory/);
    await inTime('team-1', /Normal SecretRestored: .* was deleted/);
    await inTime('team-2', /Warning ImmutableSecretRecreated: .* made anew/);
    await inTime('team-8', /Normal EntryRestored: .* was dropped/);
    expect(await eventsIn('other-0')).toEqual([]);
  });
});

test('no Secret’s data was read for it: only metadata, and only of our name', () => {
  const [reads, writes] = [questions(['get', 'list', 'watch']), questions(['patch', 'delete', 'create', 'update'])];
  expect(reads.length).toBeGreaterThan(0);
  expect(writes.length).toBeGreaterThan(damages.length);
  const isOfOurName = ({ requestURI }: AuditEvent) =>
    /^\/api\/v1\/secrets\?.*\bfieldSelector=metadata\.name%3Decr-pull(&|$)/.test(requestURI);
  expect(reads.filter((event) => event.verb === 'get' || !isOfOurName(event)).map((event) => event.requestURI)).toEqual(
    [],
  );
  // What was asked and answered: the log holds no answers of watches, so it is seen by what they accept.
  const served = [...reads.filter(({ verb }) => verb !== 'watch'), ...writes].filter(wasDone);
  expect(served.every(({ responseObject }) => responseObject !== undefined)).toBe(true);
  expect(told(served.filter(hasData))).toEqual([]);
  const asked = proxy.requests.filter(({ method, path }) => method === 'GET' && path.startsWith('/api/v1/secrets?'));
  expect(asked.filter(({ isWatch }) => isWatch).length).toBeGreaterThan(0);
  expect(asked.filter(({ accept }) => !/^application\/json;as=PartialObjectMetadata(List)?;/.test(accept))).toEqual([]);
});

test('only where its annotation is gone, nobody knows what it holds: it alone is read, once, and the log tells', async () => {
  const before = await read(secretPath('other-0'));
  const mark = cluster.auditMark();
  await editSecret('other-0', { metadata: { annotations: { [annotations.hosts]: null } } });
  await isRightAgain({ what: '', damage: () => Promise.resolve(), namespace: 'other-0' }, contentOf(before));
  const reads = await eventually('the log tells', () => {
    const events = questions(['get', 'list'], mark);
    return events.length > 0 && events;
  });
  expect(told(reads)).toEqual(['get other-0/secrets/ecr-pull: 200']);
  expect(reads.every(hasData)).toBe(true);
});

test('against a writer that never gives in: at once at first, then ever more slowly, and it is told by name', async () => {
  const { type, metadata } = await read(secretPath('other-1'));
  const data = { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') };
  const putBack = () =>
    admin.apply(
      { apiVersion: 'v1', kind: 'Secret', type, data, metadata: { name: metadata.name, namespace: 'other-1' } },
      { manager: 'stubborn', force: true },
    );
  const mark = cluster.auditMark();
  const until = performance.now() + 8_000;
  while (performance.now() < until) {
    await putBack();
    await sleep(100);
  }
  // Three at once, then after 1, 2 and 4 s.
  const repairs = servingWrites(cluster, mark).filter(({ responseStatus }) => responseStatus?.code === 200);
  expect(repairs.length).toBeGreaterThanOrEqual(4);
  expect(repairs.length).toBeLessThanOrEqual(7);
  expect((await eventsIn('other-1')).join('\n')).toMatch(/Warning SecretRestored: .* changed by stubborn/);

  // Meanwhile everybody else is repaired at once.
  const before = contentOf(await read(secretPath('other-0')));
  await admin.delete(secretPath('other-0'));
  await isRightAgain({ what: '', damage: () => Promise.resolve(), namespace: 'other-0' }, before);
  expect(operator.logs(({ level }) => level === 'error')).toEqual([]);
});
