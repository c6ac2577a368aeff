import { createSign } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { operatorAccount } from '../cluster/operator.ts';
import { isLong } from '../cluster/scaled.ts';
import { accountPath } from '../cluster/served.ts';
import { atEveryRequest, Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';

// The token of the operator's own ServiceAccount lies in a file that the kubelet replaces. TokenRequest gives none of less
// than ten minutes, so these are signed here, with the key of the control plane.

const tokenFile = join(mkdtempSync(join(tmpdir(), 'ecr-token-')), 'token');
const accountOfOperator = accountPath(operatorAccount.namespace, operatorAccount.name);
const dayMs = 86_400_000;
/** So long the API server goes on believing a token that it has just seen, and any after its end. */
const cachedMs = 10_000;
const leewayMs = 60_000;

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin({ tokenFile });
  put(await tokenFor(dayMs));
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

/** One that is good for this time. */
async function tokenFor(lifeMs: number): Promise<string> {
  const { namespace, name } = operatorAccount;
  const account = await night.admin.get(accountOfOperator);
  const now = Math.floor((Date.now() - leewayMs) / 1_000);
  const issuer = 'https://kubernetes.default.svc';
  const claims = {
    ...{ iss: issuer, aud: [issuer], sub: `system:serviceaccount:${namespace}:${name}` },
    ...{ iat: now, nbf: now, exp: now + Math.round(lifeMs / 1_000) },
    'kubernetes.io': { namespace, serviceaccount: { name, uid: account?.metadata.uid } },
  };
  const encoded = [{ alg: 'RS256', typ: 'JWT' }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  );
  const text = encoded.join('.');
  const key = readFileSync(join(night.cluster.dir, 'sa.key'));
  return `${text}.${createSign('RSA-SHA256').update(text).sign(key, 'base64url')}`;
}

/** In one step, as the kubelet does it. */
function put(token: string): void {
  writeFileSync(`${tokenFile}.new`, token, { mode: 0o600 });
  renameSync(`${tokenFile}.new`, tokenFile);
}

/** A token is read again after a minute, or after a 401: each client of each replica gets one. */
async function readAgain(): Promise<void> {
  const answer = { status: 401, body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 401 } };
  const end = await atEveryRequest(() => ({ answer }))(night);
  await sleep(2_600); // every renewal of the lease is tried after two seconds
  await end();
  for (const { proxy } of night.replicas) proxy.reset();
}

/** What each replica says of it, since a time. */
function complaints(since: number): number[] {
  return night.replicas.map(
    ({ operator }) =>
      operator.logs(
        (line) =>
          Date.parse(line.time) >= since &&
          JSON.stringify(line).includes('the API server does not accept our token (401)'),
      ).length,
  );
}

/** They say so, and live. */
async function areTurnedAway(since: number): Promise<void> {
  await eventually('every replica says so', () => complaints(since).every((count) => count > 0), 30_000);
  for (const { operator } of night.replicas) expect((await operator.health('healthz')).status).toBe(200);
  expect(night.replicas).toHaveLength(2);
}

/** How many requests a replica made within its last ten seconds. */
function requestRates(): number[] {
  const since = Date.now() - 10_000;
  return night.replicas.map(({ proxy }) => proxy.requests.filter(({ time }) => time > since).length);
}

describe('while the token of the operator’s ServiceAccount', () => {
  test('has expired and no other is in its file, it says so and goes on trying, and works again with the next one', async () => {
    const lifeMs = 8_000;
    let endsAt = Infinity;
    const begin: Begin = async () => {
      put(await tokenFor(lifeMs));
      endsAt = Date.now() + lifeMs;
      await readAgain();
      await sleep(endsAt + cachedMs + 1_000 - Date.now());
      for (const { proxy } of night.replicas) proxy.reset(); // a watch that is open outlives its token
      return async () => {
        put(''); // half a rotation
        await sleep(1_000);
        put(await tokenFor(dayMs));
      };
    };
    const during = async () => {
      await areTurnedAway(endsAt + cachedMs);
      await sleep(isLong ? 60_000 : 8_000);
      // Seven watches and a lease, each with its back-off.
      for (const rate of requestRates()) expect(rate).toBeLessThan(60);
      for (const rate of requestRates()) expect(rate).toBeGreaterThan(0);
    };
    expect(await endurance.under(begin, { lastsMs: 1_000, during })).toEqual([]);
  });

  test('is of an account that was deleted and made again, it says so, and works again with a token of the new one', async () => {
    let since = Infinity;
    const begin: Begin = async ({ admin }) => {
      const { metadata } = (await admin.get(accountOfOperator)) ?? { metadata: {} };
      await admin.delete(accountOfOperator);
      const { labels = {} } = metadata as KubeObject['metadata'];
      const again = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { ...operatorAccount, labels } };
      await admin.create(again);
      since = Date.now();
      await sleep(cachedMs + 1_000);
      for (const { proxy } of night.replicas) proxy.reset();
      return async () => put(await tokenFor(dayMs));
    };
    const during = () => areTurnedAway(since + cachedMs);
    expect(await endurance.under(begin, { lastsMs: 3_000, during })).toEqual([]);
  });

  test.skipIf(!isLong)('is replaced in its file a minute before its end, nobody notices', async () => {
    let since = Infinity;
    const begin: Begin = async () => {
      put(await tokenFor(100_000));
      await readAgain();
      put(await tokenFor(dayMs));
      since = Date.now() + 5_000; // the two clients' retries of the first reading
      return () => undefined;
    };
    expect(await endurance.under(begin, { lastsMs: 130_000 })).toEqual([]);
    expect(complaints(since)).toEqual([0, 0]);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
