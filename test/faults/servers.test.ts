import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { atEveryRequest, Endurance, isLease, type Begin } from './endure.ts';
import { Night, type Replica } from './night.ts';

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

const leasePath = '/apis/coordination.k8s.io/v1/namespaces/ecr-pull-secrets/leases/ecr-pull-secrets';
const longestLeaseMs = 20_000; // until another one leads: the lease of 15 s and a try

const leader = (): Promise<Replica> => night.leader();

/** Two of them run again, and one leads. */
async function restaff(): Promise<void> {
  while (night.replicas.length < 2) await night.startReplica();
  await leader();
}

describe('while the leader', () => {
  test.each(['SIGKILL', 'SIGTERM'] as const)('is ended by %s, the other one goes on', async (signal) => {
    const begin: Begin = async () => {
      const { operator } = await leader();
      operator.process.kill(signal);
      return () => undefined;
    };
    expect(await endurance.under(begin, { lastsMs: signal === 'SIGKILL' ? longestLeaseMs : 3_000 })).toEqual([]);
    await restaff();
  });

  test.each([scaled(5_000, 3_000), scaled(60_000, 20_000)])(
    'stands still for %i ms and then goes on, nothing is written by two',
    async (lastsMs) => {
      const begin: Begin = async () => {
        const { operator } = await leader();
        operator.pause();
        return () => operator.cont();
      };
      expect(await endurance.under(begin, { lastsMs })).toEqual([]);
    },
  );
});

test('while both replicas are killed and start again, nothing is written that was so', async () => {
  const begin: Begin = async () => {
    await night.killAll();
    return async () => {
      await restaff();
    };
  };
  expect(await endurance.under(begin, { lastsMs: 1_000 })).toEqual([]);
});

describe('while the API server', () => {
  test.each(['SIGTERM', 'SIGKILL'] as const)('is away after %s, the operator waits', async (signal) => {
    const begin: Begin = () => {
      const away = (async () => {
        await sleep(300); // life goes on first
        await night.cluster.stopApiServer(signal);
        await sleep(scaled(120_000, 8_000));
        await night.cluster.startApiServer();
      })();
      return () => away;
    };
    expect(await endurance.under(begin, { lastsMs: 1_000 })).toEqual([]);
  });

  test('stands still for a while, every request ends by its deadline', async () => {
    const begin: Begin = () => {
      const frozen = (async () => {
        await sleep(300);
        night.cluster.apiServer().kill('SIGSTOP');
        await sleep(scaled(60_000, 12_000));
        night.cluster.apiServer().kill('SIGCONT');
      })();
      return () => frozen;
    };
    expect(await endurance.under(begin, { lastsMs: 1_000 })).toEqual([]);
  });
});

describe('while the lease', () => {
  const spec = (o: object) => ({ leaseDurationSeconds: 15, holderIdentity: 'nobody', ...o });
  const micro = (ms: number) => new Date(ms).toISOString().replace('Z', '000Z');

  test('is deleted, one of them leads again', async () => {
    const begin: Begin = async () => {
      await night.admin.delete(leasePath);
      return () => undefined;
    };
    expect(await endurance.under(begin, { lastsMs: 5_000 })).toEqual([]);
  });

  const renewals: [string, number][] = [
    ['in the future of its own clock', 3_600_000],
    ['long ago', -3_600_000], // test/cluster/replicas.test.ts has it with one replica
  ];
  test.each(renewals.slice(0, isLong ? 2 : 1))(
    'is held by nobody known, renewed %s, it is taken when it has not changed for its time',
    async (_, offsetMs) => {
      const begin: Begin = async () => {
        const renewTime = micro(Date.now() + offsetMs);
        await eventually('it is taken from them', async () => {
          await night.admin.patch(leasePath, { spec: spec({ renewTime, acquireTime: renewTime }) });
          const lease = await night.admin.get<KubeObject & { spec: { holderIdentity: string } }>(leasePath);
          return lease?.spec.holderIdentity === 'nobody';
        });
        return () => undefined;
      };
      expect(await endurance.under(begin, { lastsMs: longestLeaseMs })).toEqual([]);
    },
  );

  test('cannot be renewed for longer than it lasts, nobody writes meanwhile', async () => {
    const refusal = { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 503, reason: 'ServiceUnavailable' };
    const begin = atEveryRequest((request) => (isLease(request) ? { answer: { status: 503, body: refusal } } : null), {
      reset: false,
    });
    expect(await endurance.under(begin, { lastsMs: longestLeaseMs })).toEqual([]);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
