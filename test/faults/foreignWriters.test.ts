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
import type { Version } from './oracles/history.ts';
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
  ];
  const lastsMs = scaled(300_000, 30_000);

  async function makeAnew(namespace: string): Promise<void> {
    await night.admin.delete(accountPath(namespace));
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts`;
    await night.admin.request('POST', path, { body: account(namespace) });
  }

  function doing(write: () => Promise<unknown>): Begin {
    return () => {
      const stop = new AbortController();
      const going = (async () => {
        while (!stop.signal.aborted) {
          await write();
          await sleep(3_000, undefined, { signal: stop.signal }).catch(() => undefined);
        }
      })();
      return async () => {
        stop.abort();
        await going;
      };
    };
  }

  function versionsOf(namespace: string, since: number): Version[] {
    return night.history
      .versions(since)
      .filter(({ collection, key }) => collection === 'serviceaccounts' && key === `${namespace}/default`);
  }

  /** When our entry was put on it, ms. */
  function returnsOf(namespace: string, since: number): number[] {
    const versions = versionsOf(namespace, since);
    const has = versions.map(({ type, object }) => type !== 'DELETED' && entriesOf(object).includes(defaultSecretName));
    return versions.filter((_, i) => has[i] && !(has[i - 1] ?? true)).map(({ time }) => time);
  }

  test.each(isLong ? reverts : reverts.slice(0, 1))(
    '%s, ours comes back ever more slowly, everybody else is served, and it stays within a minute of the last time',
    async (_, namespace, revert) => {
      const since = night.history.mark();
      const from = Date.now();
      const during = async () => {
        await pace.isKept([namespace]);
        if (_.includes('applies')) await isNamed(namespace);
      };
      expect(
        await endurance.under(
          doing(() => revert(namespace)),
          { lastsMs, during },
        ),
      ).toEqual([]);
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

  test('deletes a ServiceAccount and makes it again, each new one has our entry at once, and none is told of as a repair', async () => {
    const namespace = 'team-2';
    const since = night.history.mark();
    const repairs = await repairsOf(namespace); // of the crowd's
    const begin = doing(() => makeAnew(namespace));
    const during = () => pace.isKept([namespace]);
    expect(await endurance.under(begin, { lastsMs: isLong ? 300_000 : 12_000, during })).toEqual([]);
    const versions = versionsOf(namespace, since);
    const made = versions.filter(({ type }) => type === 'ADDED');
    const waits = made.map(({ time, object: { metadata } }) => {
      const served = versions.find(
        ({ object }) => object.metadata.uid === metadata.uid && entriesOf(object).includes(defaultSecretName),
      );
      return (served?.time ?? Infinity) - time;
    });
    expect(waits.length).toBeGreaterThanOrEqual(4);
    expect(Math.max(...waits)).toBeLessThan(2_000);
    expect(await repairsOf(namespace)).toEqual(repairs);
  });

  /** What is told of entries that were put back. */
  async function repairsOf(namespace: string): Promise<{ type: string; note: string }[]> {
    const path = `/apis/events.k8s.io/v1/namespaces/${namespace}/events`;
    const events = await night.admin.list<KubeObject & { type: string; reason: string; note: string }>(path);
    return events.filter(({ reason }) => reason === 'EntryRestored');
  }

  async function isNamed(namespace: string): Promise<void> {
    await eventually('a warning names it', async () => {
      const repairs = await repairsOf(namespace);
      return repairs.some(({ type, note }) => type === 'Warning' && note.includes(`was dropped by ${manager}`));
    });
  }
});

test('afterwards nothing is written', async () => {
  expect(await endurance.quiet()).toEqual([]);
});
