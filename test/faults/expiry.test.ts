import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { isLong } from '../cluster/scaled.ts';
import { authIn, createNamespaces, resource, secretPath, waitForCondition } from '../cluster/served.ts';
import { Night } from './night.ts';

// AWS away for longer than a token lives.

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
      const secrets = await Promise.all(namespaces.map((name) => night.admin.get(secretPath(name))));
      const states = secrets.map((secret) => night.ecr.stateOf(authIn(secret) ?? ''));
      expect(states).toEqual(namespaces.map(() => 'live'));
    }
    expect(await night.violations()).toEqual([]);
  },
);
