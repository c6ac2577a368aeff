import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Fault, InjectedAnswer, ProxiedRequest, SeenRequest } from '../cluster/apiServerProxy.ts';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { told } from '../cluster/served.ts';
import { atEveryRequest, Endurance, isLease, isReading, type Begin } from './endure.ts';
import { leasePath, Night, type Replica } from './night.ts';
import { nobodyLeads } from './telling.ts';

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

const leaseMs = 15_000;
const longestLeaseMs = 20_000; // until another one leads: the lease of 15 s and a try

describe('while the leader', () => {
  test.each(['SIGKILL', 'SIGTERM'] as const)('is ended by %s, the other one goes on', async (signal) => {
    const begin: Begin = async () => {
      const { operator } = await night.leader();
      operator.process.kill(signal);
      return () => undefined;
    };
    expect(await endurance.under(begin, { lastsMs: signal === 'SIGKILL' ? longestLeaseMs : 3_000 })).toEqual([]);
    await night.restaff();
  });

  test.each([scaled(5_000, 3_000), scaled(60_000, 20_000)])(
    'stands still for %i ms and then goes on, nothing is written by two',
    async (lastsMs) => {
      const begin: Begin = async () => {
        const { operator } = await night.leader();
        operator.pause();
        return () => operator.cont();
      };
      expect(await endurance.under(begin, { lastsMs })).toEqual([]);
    },
  );
});

/** What was written that no fault and no life asked for: of this round everything is new, and the status tells of it. */
function writtenAgain(): string[] {
  const isOfRound = (write: string) => write.includes(` ${endurance.round}-`) || write.includes(' team-0/');
  return told(night.writes().filter(({ objectRef }) => objectRef?.subresource !== 'status')).filter(
    (write) => !isOfRound(write),
  );
}

test('while both replicas are killed and start again, they wait for the lease of the dead, and nothing is written that was so', async () => {
  let tookMs = 0;
  const begin: Begin = async () => {
    await Promise.all(night.replicas.map(({ operator }) => operator.kill()));
    return async () => {
      const from = Date.now();
      await Promise.all([night.startReplica(), night.startReplica()]);
      await night.leader();
      tookMs = Date.now() - from;
    };
  };
  expect(await endurance.under(begin, { lastsMs: 1_000 })).toEqual([]);
  expect(writtenAgain()).toEqual([]);
  expect(tookMs).toBeGreaterThan(leaseMs);
  expect(tookMs).toBeLessThan(leaseMs + 10_000); // their start, and a try
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

describe('while the second page of every list', () => {
  const expired: InjectedAnswer = {
    status: 410,
    body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code: 410, reason: 'Expired' },
  };
  const listOf = ({ path }: ProxiedRequest) => {
    const { pathname, searchParams } = new URL(path, 'https://any');
    return `${pathname} ${searchParams.get('fieldSelector') ?? ''}`;
  };

  /** Everything is listed anew, two objects a page, and each list is lost once where it goes on. */
  function lost(asks: (path: string) => Fault, seen: Set<string>): Begin {
    const refused = new Set<string>();
    const isFirst = (of: Set<string>, key: string) => !of.has(key) && Boolean(of.add(key));
    return atEveryRequest((request, { operator }: Replica) => {
      if (!isReading(request)) return null;
      const key = `${operator.process.name} ${listOf(request)}`;
      if (request.isWatch) return isFirst(refused, key) ? { answer: expired } : null;
      const path = request.path.replace('limit=500', 'limit=2');
      return path.includes('continue=') && isFirst(seen, key) ? asks(path) : { path };
    });
  }

  const ways: [string, number, (path: string) => Fault][] = [
    [
      'is asked for by a `continue` that means nothing',
      400, // the API server's own word
      (path) => ({ path: path.replace(/continue=[^&]+/, 'continue=x') }),
    ],
    ['has expired with its snapshot', 410, () => ({ answer: expired })],
  ];
  test.each(ways)('%s, the list begins anew, and no object is taken for gone', async (_, code, asks) => {
    const seen = new Set<string>();
    const from = Date.now();
    const during = async () => {
      const wanted = night.replicas.flatMap(({ operator }) =>
        ['namespaces', 'serviceaccounts', 'secrets metadata.name=ecr-pull'].map(
          (list) => `${operator.process.name} /api/v1/${list}`,
        ),
      );
      await eventually('each list was lost, and is whole', () => {
        const missing = wanted.filter((list) => ![...seen].some((key) => key.startsWith(list)));
        if (missing.length > 0) throw new Error(`not lost: ${missing.join(', ')}`);
        return night.replicas.every(({ proxy }) => hasBegunAnew(proxy.requests, code, from));
      });
    };
    expect(await endurance.under(lost(asks, seen), { lastsMs: 2_000, during })).toEqual([]);
    expect(writtenAgain()).toEqual([]);
  });

  /** After a page that was refused so: the same list from its beginning, to its end. */
  function hasBegunAnew(requests: readonly SeenRequest[], code: number, since: number): boolean {
    const lists = requests.filter(
      ({ time, path, isWatch }) => time >= since && !isWatch && path.startsWith('/api/v1/namespaces?'),
    );
    const lostAt = lists.findIndex(({ path, status }) => path.includes('continue=') && status === code);
    const again = lostAt < 0 ? [] : lists.slice(lostAt + 1);
    return again.some(({ path }) => !path.includes('continue=')) && again.some(({ status }) => status === 200);
  }
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

  const refusals: [string, number, string, (request: ProxiedRequest) => boolean][] = [
    ['cannot be read or renewed', 503, 'ServiceUnavailable', isLease],
    ['is a conflict at each renewal', 409, 'Conflict', (request) => isLease(request) && request.method === 'PUT'],
  ];
  test.each(refusals)('%s for longer than it lasts, nobody writes, and one leads afterwards', async (...refusal) => {
    const [, code, reason, isRefused] = refusal;
    const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code, reason };
    let lapsed = 0;
    const begin: Begin = async (night) => {
      const end = await atEveryRequest((request) => (isRefused(request) ? { answer: { status: code, body } } : null), {
        reset: false,
      })(night);
      return async () => {
        await nobodyLeads(night);
        expect(told(night.writes(lapsed))).toEqual([]);
        await end();
      };
    };
    const during = async () => {
      await nobodyLeads(night);
      lapsed = night.cluster.auditMark();
    };
    expect(await endurance.under(begin, { lastsMs: longestLeaseMs, during })).toEqual([]);
    await night.leader();
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
