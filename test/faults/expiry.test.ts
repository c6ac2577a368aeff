import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { isLong } from '../cluster/scaled.ts';
import { authIn, createNamespaces, resource, secretPath, told, waitForCondition } from '../cluster/served.ts';
import { Night } from './night.ts';
import { isTold, isToldNoMore, sumOf } from './telling.ts';

// AWS away for a part of a token's life, and for longer than it lives.

const lifeMs = 24_000;
if (!isLong) console.log('a leader killed between two refreshes with --long: it takes two lives of a token');
let night: Night;
let namespaces: string[];

beforeAll(async () => {
  night = await Night.begin({ lifeMs });
  namespaces = await createNamespaces(night.admin, 3);
  await night.admin.create(resource('production', { verification: { mode: 'Disabled' } }));
  await Promise.all([night.startReplica(), night.startReplica()]);
  await night.whole(namespaces);
});
afterAll(() => night?.end());

/** What each of them holds now. */
async function statesOf(names: readonly string[]): Promise<string[]> {
  const secrets = await Promise.all(names.map((name) => night.admin.get(secretPath(name))));
  return secrets.map((secret) => night.ecr.stateOf(authIn(secret) ?? ''));
}

// Scaled from twelve hours to 24 s. The operator leaves ten seconds between two tries, whatever a token's life.
test('while AWS is away for five twelfths of a token’s life, every token is alive at all times, and there is a fresh one before the end', async () => {
  const { ecr } = night;
  const begunWith = ecr.issued.length;
  const isYoung = () => Date.now() - (ecr.issued.at(-1)?.issuedAt ?? 0) < lifeMs / 3;
  if (!isYoung()) await eventually('a token that is young', () => ecr.issued.length > begunWith, lifeMs);
  await night.whole(namespaces);
  night.mark();
  const token = ecr.issued.at(-1);
  if (token === undefined) throw new Error('there is no token');
  const [issued, calls] = [ecr.issued.length, ecr.calls.length];
  const sample = 'ecr_pull_secrets_refresh_failures_total{reason="ServerError"}';
  const above = await sumOf(night, sample);
  const since = night.cluster.auditMark();
  ecr.fault = { status: 500, type: 'ServerException' };
  const isAwayUntil = () => (ecr.calls[calls]?.time ?? Infinity) + (lifeMs * 5) / 12 - 1_000;
  while (ecr.issued.length === issued && Date.now() < token.expiresAt) {
    expect(await statesOf(namespaces)).toEqual(namespaces.map(() => 'live'));
    if (ecr.fault !== null && Date.now() >= isAwayUntil()) {
      const message = /: AWS has a fault at 127\.0\.0\.1 \(HTTP 500\).*: it is asked again; look at AWS's status page/;
      const condition = { type: 'Refreshed', reason: 'ServerError', message } as const;
      await isTold(night, { condition, metric: { sample, above } }, 1_000); // the first refusal was long ago
      const ofSecrets = night.writes(since).filter(({ objectRef }) => objectRef?.resource === 'secrets');
      expect(told(ofSecrets)).toEqual([]);
      ecr.fault = null;
    }
    await sleep(500);
  }
  expect(ecr.issued.length).toBe(issued + 1);
  await night.whole(namespaces);
  expect(Date.now()).toBeLessThan(token.expiresAt);
  await isToldNoMore(night, 'Refreshed');
  expect(await night.violations()).toEqual([]);
});

test('while AWS is away past the end of every token, entries stay, no dead token is written, and all is right within a minute of its return', async () => {
  night.mark();
  night.ecr.fault = { status: 500, type: 'ServerException' };
  const before = await Promise.all(namespaces.map((name) => night.admin.get(secretPath(name))));
  const told = await waitForCondition(night.admin, 'Refreshed', ({ reason }) => reason === 'Expired', {
    timeoutMs: 2 * lifeMs,
  });
  expect(told.message).toMatch(/has expired/);
  await night.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team-late' } });
  await sleep(3_000);
  expect(await night.admin.get(secretPath('team-late'))).toBeNull();
  const after = await Promise.all(namespaces.map((name) => night.admin.get(secretPath(name))));
  expect(after.map((secret) => night.ecr.stateOf(authIn(secret) ?? ''))).toEqual(namespaces.map(() => 'expired'));
  expect(after.map((secret) => secret?.metadata.uid)).toEqual(before.map((secret) => secret?.metadata.uid));

  night.ecr.fault = null;
  const back = Date.now();
  await night.whole([...namespaces, 'team-late']);
  expect(Date.now() - back).toBeLessThan(60_000);
  await waitForCondition(night.admin, 'Ready', ({ status }) => status === 'True', { timeoutMs: 20_000 });
  expect(await night.violations()).toEqual([]);
});

test.runIf(isLong)(
  'while the leader is killed right after a refresh, the other one makes the next in time',
  async () => {
    night.mark();
    const count = night.ecr.issued.length;
    await eventually('a refresh', () => night.ecr.issued.length > count, 2 * lifeMs);
    await night.whole([...namespaces, 'team-late']);
    await (await night.leader()).operator.kill();
    for (const until = Date.now() + 2 * lifeMs; Date.now() < until; await sleep(500)) {
      expect(await statesOf(namespaces)).toEqual(namespaces.map(() => 'live'));
    }
    expect(await night.violations()).toEqual([]);
  },
);
