import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultSecretName } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { askForRefresh, accountPath, entriesOf, secretPath } from '../cluster/served.ts';
import { seeded } from '../seeded.ts';
import { Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';
import { Pace } from './pace.ts';

const random = seeded(Number(process.env['FAULT_SEED'] ?? 1));
const crowd = scaled(300, 60);
if (!isLong)
  console.log(`${crowd} writers of 300; one operator that replaces ServiceAccounts of three, for half a minute`);

let night: Night;
let endurance: Endurance;
let pace: Pace;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
  pace = await Pace.of(night, endurance);
});
afterAll(() => night?.end());

/** Reads, changes and puts back until nobody was faster; how often somebody was. */
async function replaceEntries(namespace: string, change: (entries: string[]) => string[]): Promise<number> {
  const path = accountPath(namespace);
  for (let tries = 0; ; tries++) {
    const account = await night.admin.read(path);
    const body = { ...account, imagePullSecrets: change(entriesOf(account)).map((name) => ({ name })) };
    const { status } = await night.admin.request('PUT', path, { body });
    if (status === 200) return tries;
    if (status !== 409) throw new Error(`${path}: ${status}`);
  }
}

describe('while a crowd writes at once to the ServiceAccounts and Secrets of three namespaces', () => {
  const crowded = ['team-0', 'team-1', 'team-2'];
  const writers = Array.from({ length: crowd }, (_, i) => ({ name: `foreign-${i}`, namespace: crowded[i % 3] ?? '' }));
  const kinds = ['entry', 'label of the account', 'label of the Secret'] as const;
  const plan = writers.map((writer, i) => ({
    ...writer,
    kind: kinds[Math.floor(i / 3) % 3],
    afterMs: Math.floor(random() * 4) * 250, // many of them in the same moment
  }));
  let collisions = 0;

  async function write({ name, namespace, kind, afterMs }: (typeof plan)[number]): Promise<void> {
    await sleep(afterMs);
    const labels = { [name]: 'was-here' };
    if (kind === 'entry') collisions += await replaceEntries(namespace, (entries) => [...entries, name]);
    else if (kind === 'label of the account') await night.admin.patch(accountPath(namespace), { metadata: { labels } });
    else await night.admin.patch(secretPath(namespace), { metadata: { labels } });
  }

  test('no foreign entry and no label is lost, and a fresh token gets through', async () => {
    const begin: Begin = async ({ admin, ecr }) => {
      await ecr.rested();
      const all = Promise.all(plan.map(write));
      // Ours is dropped in the midst of it, and a new token comes.
      await sleep(500);
      for (const name of crowded) {
        await replaceEntries(name, (entries) => entries.filter((entry) => entry !== defaultSecretName));
      }
      await askForRefresh(admin);
      return async () => {
        await all;
      };
    };
    const calls = night.ecr.calls.length;
    const during = () => pace.isKept(crowded);
    expect(await endurance.under(begin, { lastsMs: 3_000, during, calls: 1 })).toEqual([]);
    expect(night.ecr.calls.length).toBe(calls + 1);
    expect(collisions).toBeGreaterThan(0);
    for (const { name, namespace, kind } of plan) {
      const account = await night.admin.read(accountPath(namespace));
      const { labels = {} } =
        kind === 'label of the Secret' ? (await night.admin.read(secretPath(namespace))).metadata : account.metadata;
      const isThere = kind === 'entry' ? entriesOf(account).includes(name) : labels[name] === 'was-here';
      expect([name, isThere]).toEqual([name, true]);
    }
  });
});

describe('while another operator every three seconds', () => {
  const manager = 'account-operator';
  const imagePullSecrets = [{ name: 'own' }];
  const account = (namespace: string): KubeObject => ({
    ...{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } },
    imagePullSecrets,
  });

  const reverts: [name: string, namespace: string, revert: (namespace: string) => Promise<unknown>][] = [
    [
      'applies its own list to a ServiceAccount',
      'team-0',
      (namespace) => night.admin.apply(account(namespace), { manager, force: true }),
    ],
    [
      'puts its own list on a ServiceAccount',
      'team-1',
      async (namespace) => {
        const current = await night.admin.read(accountPath(namespace));
        const body = { ...current, imagePullSecrets };
        await night.admin.request('PUT', accountPath(namespace), { body, query: { fieldManager: manager } });
      },
    ],
    [
      'deletes a ServiceAccount and makes it again',
      'team-2',
      async (namespace) => {
        await night.admin.delete(accountPath(namespace));
        await night.admin.request('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, {
          body: account(namespace),
        });
      },
    ],
  ];
  const lastsMs = scaled(300_000, 30_000);

  /** When our entry was put on it, ms. */
  function returnsOf(namespace: string, since: number): number[] {
    const versions = night.history
      .versions(since)
      .filter(({ collection, key }) => collection === 'serviceaccounts' && key === `${namespace}/default`);
    const has = versions.map(({ type, object }) => type !== 'DELETED' && entriesOf(object).includes(defaultSecretName));
    return versions.filter((_, i) => has[i] && !(has[i - 1] ?? true)).map(({ time }) => time);
  }

  test.each(isLong ? reverts : reverts.slice(0, 1))(
    '%s, ours comes back ever more slowly, everybody else is served, and it stays within a minute of the last time',
    async (_, namespace, revert) => {
      const since = night.history.mark();
      const from = Date.now();
      const begin: Begin = () => {
        const stop = new AbortController();
        const reverting = (async () => {
          while (!stop.signal.aborted) {
            await revert(namespace);
            await sleep(3_000, undefined, { signal: stop.signal }).catch(() => undefined);
          }
        })();
        return async () => {
          stop.abort();
          await reverting;
        };
      };
      const during = async () => {
        await pace.isKept([namespace]);
        if (_.includes('applies')) await isNamed(namespace);
      };
      expect(await endurance.under(begin, { lastsMs, during })).toEqual([]);
      const returns = returnsOf(namespace, since).filter((time) => time < from + lastsMs);
      const gaps = returns.slice(1).map((time, i) => time - (returns[i] ?? 0));
      // At once thrice, then after 1, 2, 4 s and so on, each rounded up to when it is undone.
      expect(returns.length).toBeGreaterThanOrEqual(4);
      expect(returns.length).toBeLessThanOrEqual(isLong ? 16 : 10);
      expect(Math.max(...gaps)).toBeGreaterThanOrEqual(isLong ? 55_000 : 7_000);
      expect(Math.max(...gaps)).toBeLessThanOrEqual(66_000);
      expect(
        entriesOf(await night.admin.read(accountPath(namespace))).filter((name) => name !== defaultSecretName),
      ).toContain('own');
    },
  );

  async function isNamed(namespace: string): Promise<void> {
    const path = `/apis/events.k8s.io/v1/namespaces/${namespace}/events`;
    await eventually(
      'a warning names it',
      async () => {
        const events = await night.admin.list<KubeObject & { type: string; reason: string; note: string }>(path);
        return events.some(
          ({ type, reason, note }) =>
            type === 'Warning' && reason === 'EntryRestored' && note.includes(`was dropped by ${manager}`),
        );
      },
      30_000,
    );
  }
});

test('afterwards nothing is written', async () => {
  await sleep(2_000); // the last status
  expect(await night.quiet()).toEqual([]);
});
