import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { scaled } from '../cluster/scaled.ts';
import { accountPath, askForRefresh, entriesOf, told, waitForCondition } from '../cluster/served.ts';
import { TcpRelay } from '../cluster/tcpRelay.ts';
import { Endurance, type Begin } from './endure.ts';
import { NameServer } from './nameServer.ts';
import { Night } from './night.ts';
import { isTold, isToldNoMore, nobodyLeads, sumOf } from './telling.ts';

// The API server and AWS are known to the operator by name alone, and the one name server is the test's. The registry's
// own name it does not know.

const { status, stderr } = spawnSync('unshare', ['--mount', 'true'], { encoding: 'utf8' });
const whyNot = status === 0 ? null : stderr.trim() || 'there is no unshare';
if (whyNot !== null) console.log(`skipped, as no mount namespace can be made here (root can): ${whyNot}`);

const api = 'kubernetes.default.svc'; // in the API server's certificate
const aws = 'api.ecr.us-east-1.amazonaws.test';
const store = '/api/v1/namespaces/ecr-pull-secrets/secrets/ecr-pull-tokens';
const addresses = ['127.53.0.1', '127.53.0.2'] as const;
const readyWithinMs = scaled(40_000, 15_000); // the longest back-off without a token is half a minute

let night: Night;
let endurance: Endurance;
let names: NameServer;
const ways: Way[] = [];

/** From one port of either address to the same server; one of them is open at a time. */
class Way {
  readonly #target: { host: string; port: number };
  #relay: TcpRelay;

  private constructor(target: { host: string; port: number }, relay: TcpRelay) {
    this.#target = target;
    this.#relay = relay;
  }

  static async open(url: string): Promise<Way> {
    const { hostname: host, port } = new URL(url);
    const target = { host, port: Number(port) };
    const way = new Way(target, await TcpRelay.start(target, { host: addresses[0] }));
    ways.push(way);
    return way;
  }

  get port(): number {
    return this.#relay.port;
  }

  async moveTo(host: string): Promise<void> {
    const { port } = this.#relay;
    await this.#relay.close();
    this.#relay = await TcpRelay.start(this.#target, { host, port });
  }

  /** Every connection is cut: who goes on has to ask for the name again. */
  cut(): void {
    this.#relay.reset();
  }

  close(): Promise<void> {
    return this.#relay.close();
  }
}

beforeAll(async () => {
  if (whyNot !== null) return;
  names = await NameServer.start();
  for (const name of [api, aws]) names.names.set(name, addresses[0]);
  night = await Night.begin();
  const command = names.command(night.cluster.dir);
  const { port } = await Way.open(night.ecr.url);
  night.usual = () => ({
    within: { command },
    env: { AWS_ENDPOINT_URL: `http://${aws}:${port}` },
    serverOf: async (proxy) => `https://${api}:${(await Way.open(proxy.url)).port}`,
  });
  endurance = await Endurance.begin(night);
});
afterAll(async () => {
  await night?.end();
  await Promise.all(ways.map((way) => way.close()));
  await names?.end();
});

function cutAll(): void {
  for (const way of ways) way.cut();
}

async function askAnew(): Promise<void> {
  await night.ecr.rested();
  await askForRefresh(night.admin);
}

async function isReady(): Promise<void> {
  const { reason } = await waitForCondition(night.admin, 'Ready', ({ status }) => status === 'True');
  expect(reason).toBe('Ready');
}

/** Of all that run: alive, and none has ended. */
async function isAlive(): Promise<void> {
  expect(night.replicas).toHaveLength(2);
  for (const { operator } of night.replicas) {
    await eventually('it listens', () => operator.health('healthz'));
    expect((await operator.health('healthz')).status).toBe(200);
  }
}

describe.skipIf(whyNot !== null)('while the name server', () => {
  const starts: [string, () => Promise<void> | void, () => Promise<void> | void][] = [
    ['is away', () => names.end(), () => names.begin()],
    [
      'says SERVFAIL of AWS',
      () => {
        names.broken.add(aws);
      },
      () => names.broken.clear(),
    ],
  ];
  test.each(starts)('%s at the start, the operator waits, and is ready soon after', async (_, stop, goOn) => {
    const begin: Begin = async (night) => {
      await night.killAll();
      await night.admin.delete(store); // so that a token is needed
      await stop();
      await Promise.all([1, 2].map(() => night.startReplica({ ...night.usual(), waitUntilReady: false })));
      return async () => {
        await isAlive();
        await goOn();
        const back = Date.now();
        await night.whole(endurance.namespaces);
        expect(Date.now() - back).toBeLessThan(readyWithinMs);
        await isReady();
      };
    };
    const broken = await endurance.under(begin, { lastsMs: scaled(60_000, 6_000), during: isAlive, calls: 1 });
    // The store of tokens was taken away by the test.
    const made = 'secrets ecr-pull-secrets/ecr-pull-tokens: made 1 times, 0 without the fault';
    expect(broken.filter((text) => text !== made)).toEqual([]);
  });

  test('says SERVFAIL of AWS as a token is asked for, every good one stays, it is told, and a fresh one comes', async () => {
    const begin: Begin = async () => {
      names.broken.add(aws);
      cutAll();
      await askAnew();
      return () => names.broken.clear();
    };
    const sample = 'ecr_pull_secrets_refresh_failures_total{reason="DnsFailure"}';
    const above = await sumOf(night, sample);
    const message = new RegExp(`: DNS does not answer for ${aws}: look at the cluster's DNS`);
    const during = async () => {
      const condition = { type: 'Refreshed', reason: 'DnsFailure', message } as const;
      await isTold(night, { condition, metric: { sample, above } });
    };
    const before = night.ecr.issued.length;
    expect(await endurance.under(begin, { lastsMs: 500, during, calls: 1 })).toEqual([]);
    await eventually('there is a fresh token', () => night.ecr.issued.length > before);
    await isToldNoMore(night, 'Refreshed');
    await night.whole(endurance.namespaces);
    await isReady();
  });

  test('says SERVFAIL of the API server as connections are cut, the operator goes on when it answers', async () => {
    const begin: Begin = () => {
      names.broken.add(api);
      cutAll();
      return () => names.broken.clear();
    };
    expect(await endurance.under(begin, { lastsMs: scaled(60_000, 6_000), during: isAlive })).toEqual([]);
  });

  test('is away as connections are cut, the leader gives up its lease in time, and all goes on when it is back', async () => {
    const foreign = [{ name: 'foreign' }];
    let lapsed = 0;
    const begin: Begin = async () => {
      await names.end();
      cutAll();
      return async () => {
        expect(told(night.writes(lapsed))).toEqual([]);
        expect(entriesOf(await night.admin.read(accountPath(`${endurance.round}-b`)))).toEqual(['foreign']);
        await names.begin();
        const back = Date.now();
        await night.leader();
        expect(Date.now() - back).toBeLessThan(readyWithinMs);
      };
    };
    const during = async () => {
      await nobodyLeads(night);
      lapsed = night.cluster.auditMark();
      await night.admin.patch(accountPath(`${endurance.round}-b`), { imagePullSecrets: foreign });
      await isAlive();
    };
    expect(await endurance.under(begin, { lastsMs: scaled(60_000, 12_000), during })).toEqual([]);
  });

  test('takes five seconds for the API server’s name as connections are cut, the operator goes on nevertheless', async () => {
    const begin: Begin = () => {
      names.delaysMs.set(api, 5_000);
      cutAll();
      return () => names.delaysMs.clear();
    };
    const during = async () => {
      await isAlive();
      await night.whole(endurance.namespaces);
    };
    expect(await endurance.under(begin, { lastsMs: scaled(60_000, 6_000), during })).toEqual([]);
  });

  // As where the first of two questions is lost on its way, and the resolver asks again after five seconds.
  test('takes five seconds for an answer, AWS is asked nevertheless', async () => {
    const before = night.ecr.issued.length;
    const begin: Begin = async () => {
      names.delaysMs.set(aws, 5_000);
      cutAll();
      await askAnew();
      return () => names.delaysMs.clear();
    };
    const during = async () => {
      await isAlive();
      await eventually('there is a fresh token', () => night.ecr.issued.length > before).finally(() =>
        names.delaysMs.clear(),
      );
    };
    expect(await endurance.under(begin, { lastsMs: scaled(60_000, 6_000), during, calls: 1 })).toEqual([]);
    await isReady();
  });

  test('has another address for AWS and the API server, and the old one is closed, the operator follows', async () => {
    const begin: Begin = async () => {
      for (const name of [api, aws]) names.names.set(name, addresses[1]);
      await Promise.all(ways.map((way) => way.moveTo(addresses[1])));
      await askAnew();
      return () => undefined;
    };
    const before = night.ecr.issued.length;
    const during = async () =>
      void (await eventually('there is a fresh token', () => night.ecr.issued.length > before));
    expect(await endurance.under(begin, { lastsMs: 1_000, during, calls: 1 })).toEqual([]);
  });
});

test.skipIf(whyNot !== null)('afterwards nothing is written, and AWS is left alone', async () => {
  const calls = night.ecr.calls.length;
  expect(await endurance.quiet()).toEqual([]);
  expect(night.ecr.calls.length).toBe(calls);
});
