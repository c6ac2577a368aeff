import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi, KubeObject } from './kubeApi.ts';
import { installDeploy, operatorUser, startOperator, type Operator } from './operator.ts';
import { isLong } from './scaled.ts';
import { accountPath, createNamespaces, entriesOf, resource, secretPath, told } from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// imagePullSecrets is one list without keys, and we are never its only writer.

const rounds = isLong ? 300 : 100;
const delays = [0, 2, 5];

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let operator: Operator;
let collisions = 0;

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  await installDeploy(cluster);
  const selector = { matchExpressions: [{ key: 'ecr', operator: 'NotIn', values: ['off'] }] };
  await admin.create(
    resource('production', {
      namespaces: { selector, names: ['race-*', 'toggle-*', 'apply-*'] },
      serviceAccounts: { names: ['*'] },
    }),
  );
  // What is not selected goes at once: a namespace that is toggled is emptied and filled each time.
  operator = await startOperator({ cluster, env: ecr.env, args: ['--removal-delay=0s'] });
});
afterAll(async () => {
  await cluster?.stop();
  await ecr?.close();
});

const foreign = 'foreign';

type Writer = (namespace: string, name: string, delayMs: number) => Promise<void>;

/** Each makes a ServiceAccount and a moment later adds its entry, as such programs do it. */
const writers: Record<string, Writer> = {
  async put(namespace, name, delayMs) {
    await createAccount(namespace, name);
    await pause(delayMs);
    await untilNoConflict(async () => {
      const account = await read(namespace, name);
      return admin.request('PUT', accountPath(namespace, name), {
        body: { ...account, imagePullSecrets: withForeign(account) },
      });
    });
  },
  async 'merge-patch'(namespace, name, delayMs) {
    await createAccount(namespace, name);
    await pause(delayMs);
    await untilNoConflict(async () => {
      const account = await read(namespace, name);
      const { resourceVersion } = account.metadata;
      return admin.request('PATCH', accountPath(namespace, name), {
        body: { metadata: { resourceVersion }, imagePullSecrets: withForeign(account) },
        contentType: 'application/merge-patch+json',
      });
    });
  },
  async apply(namespace, name, delayMs) {
    // With a label: who applies nothing at all is not noted as having applied it.
    const metadata = { name, namespace, labels: { app: name } };
    await untilNoConflict(() => applyAccount(namespace, name, { metadata }));
    await pause(delayMs);
    await untilNoConflict(() => applyAccount(namespace, name, { metadata, imagePullSecrets: [{ name: foreign }] }));
  },
};

function createAccount(namespace: string, name: string): Promise<unknown> {
  return admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } });
}

async function read(namespace: string, name: string): Promise<KubeObject> {
  const account = await admin.get(accountPath(namespace, name));
  if (account === null) throw new Error(`${namespace}/${name} is gone`);
  return account;
}

const withForeign = (account: KubeObject) => [...entriesOf(account), foreign].map((name) => ({ name }));

/** Unforced, as kubectl does it. */
function applyAccount(namespace: string, name: string, content: object, manager = 'helm') {
  return admin.request<{ message?: string }>('PATCH', accountPath(namespace, name), {
    query: { fieldManager: manager },
    body: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace }, ...content },
    contentType: 'application/apply-patch+yaml',
  });
}

/** A timer is never shorter than a millisecond. */
async function pause(ms: number): Promise<void> {
  if (ms > 0) await sleep(ms);
}

async function untilNoConflict(write: () => Promise<{ status: number; body: unknown }>): Promise<void> {
  for (let tries = 1; ; tries++) {
    const { status, body } = await write();
    if (status < 300) return;
    if (status !== 409 || tries === 100) throw new Error(`try ${tries}: ${status} ${JSON.stringify(body)}`);
    collisions += 1;
  }
}

/** All rounds of all writers, each writer in a namespace of its own. */
async function raceIn(prefix: string, delayMs: number): Promise<string[]> {
  const runs = Object.entries(writers).map(async ([kind, write]) => {
    const namespace = `${prefix}-${kind}-${delayMs}`;
    for (let round = 0; round < rounds; round++) await write(namespace, `app-${round}`, delayMs);
    return namespace;
  });
  return Promise.all(runs);
}

async function prepare(prefix: string, delayMs: number): Promise<string[]> {
  const names = Object.keys(writers).map((kind) => `${prefix}-${kind}-${delayMs}`);
  await Promise.all(
    names.map(async (name) => {
      await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
      await admin.waitFor(accountPath(name), (account) => entriesOf(account).length === 1);
    }),
  );
  return names;
}

/** In the end each of the accounts has both entries, each once; what has not is told. */
async function expectWhole(namespaces: readonly string[]): Promise<void> {
  let accounts: KubeObject[] = [];
  const wrong = () =>
    accounts
      .filter(({ metadata }) => metadata.name !== 'default')
      .filter((account) => entriesOf(account).toSorted().join() !== `ecr-pull,${foreign}`)
      .map((account) => `${account.metadata.namespace}/${account.metadata.name}: ${entriesOf(account).join()}`);
  await eventually(
    'both entries are on every account',
    async () => {
      accounts = (await Promise.all(namespaces.map(accountsOf))).flat();
      if (wrong().length > 0) throw new Error(`${wrong().length} are not, such as ${wrong().slice(0, 5).join('; ')}`);
      return true;
    },
    30_000,
  );
  expect(accounts).toHaveLength(namespaces.length * (rounds + 1));
}

const accountsOf = (namespace: string) => admin.list(`/api/v1/namespaces/${namespace}/serviceaccounts`);

describe.each(delays)('entries that others add %i ms after they made the ServiceAccount', (delayMs) => {
  test('are all there in the end, and ours once beside each', async () => {
    const namespaces = await prepare('race', delayMs);
    await raceIn('race', delayMs);
    await expectWhole(namespaces);
  });

  test('the same while somebody toggles whether the namespace is selected', async () => {
    const namespaces = await prepare('toggle', delayMs);
    const mark = cluster.auditMark();
    const raceIsOver = new AbortController();
    const toggler = async (name: string) => {
      const path = `/api/v1/namespaces/${name}`;
      for (let i = 0; !raceIsOver.signal.aborted; i++) {
        await admin.patch(path, { metadata: { labels: { ecr: i % 2 === 0 ? 'off' : 'on' } } });
        await sleep(40 + (i % 7) * 15);
      }
      await admin.patch(path, { metadata: { labels: { ecr: 'on' } } });
    };
    const toggling = Promise.all(namespaces.map(toggler));
    await raceIn('toggle', delayMs).finally(() => raceIsOver.abort());
    await toggling;
    await expectWhole(namespaces);
    for (const name of namespaces) expect(await admin.get(secretPath(name))).not.toBeNull();
    const deletions = cluster.auditEvents({ user: operatorUser, verb: 'delete', resource: 'secrets', since: mark });
    expect(deletions.length).toBeGreaterThan(3 * namespaces.length);
  });
});

test('all of this was a race: writers met each other', () => {
  const refused = cluster
    .auditEvents({ user: operatorUser, verb: 'patch', resource: 'serviceaccounts' })
    .filter(({ responseStatus }) => (responseStatus?.code ?? 0) >= 300);
  console.log(`the others met ${collisions} conflicts, we met ${refused.length}`);
  expect(collisions).toBeGreaterThan(0);
  expect(refused.length).toBeGreaterThan(0);
  // By a test of the JSON patch alone; any other refusal would be told here.
  expect(told(refused).filter((line) => !/: (422|409|404)$/.test(line))).toEqual([]);
  expect(operator.logs(({ level }) => level === 'error')).toEqual([]);
});

describe('an owner that applies the ServiceAccount again, unforced', () => {
  const namespace = 'apply-0';

  beforeAll(async () => {
    await createNamespaces(admin, 1, 'apply');
  });

  const owns = (account: KubeObject, manager: string) =>
    account.metadata.managedFields?.some(
      (entry) => entry.manager === manager && 'f:imagePullSecrets' in entry.fieldsV1,
    ) ?? false;

  /** Our entry is there or not, and the API server does not note the list as ours. */
  const settles = (name: string, entries: readonly string[]) =>
    admin.waitFor(
      accountPath(namespace, name),
      (account) => entriesOf(account).join() === entries.join() && !owns(account, 'ecr-pull-secrets'),
    );

  const apply = async (name: string, list: readonly string[] | null, labels: Record<string, string>) => {
    const content = list && { imagePullSecrets: list.map((entry) => ({ name: entry })) };
    const answer = await applyAccount(namespace, name, { metadata: { name, namespace, labels }, ...content });
    return [answer.status, answer.body.message];
  };

  test.each([
    ['with a list', 'with-list', ['own']],
    ['with an empty list', 'empty-list', []],
    ['without a list', 'no-list', null],
  ])('%s: no conflict, after our entry was added and after it was removed', async (_, name, list) => {
    const ours = [...(list ?? []), 'ecr-pull'];
    for (let version = 1; version <= 3; version++) {
      expect(await apply(name, list, { version: String(version) })).toEqual([version === 1 ? 201 : 200, undefined]);
      await settles(name, ours);
    }
    const annotate = (value: string | null) =>
      admin.patch(accountPath(namespace, name), { metadata: { annotations: { 'ecr.pullsecrets.io/ignore': value } } });
    await annotate('true');
    await settles(name, list ?? []);
    expect(await apply(name, list, { version: '4' })).toEqual([200, undefined]);
    await annotate(null);
    await settles(name, ours);
  });

  test('after a writer that keeps the ownership of its edit it is a conflict: the API server can tell', async () => {
    const name = 'kept';
    expect(await apply(name, ['own'], {})).toEqual([201, undefined]);
    await settles(name, ['own', 'ecr-pull']);
    const add = [{ op: 'add', path: '/imagePullSecrets/-', value: { name: 'naive' } }];
    await admin.patch(accountPath(namespace, name), add, { type: 'json', manager: 'naive' });
    expect(owns(await read(namespace, name), 'naive')).toBe(true);
    expect(await apply(name, ['own'], {})).toEqual([409, expect.stringContaining('naive')]);
  });
});
