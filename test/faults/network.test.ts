import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ApiServerProxy } from '../cluster/apiServerProxy.ts';
import { eventually } from '../cluster/eventually.ts';
import { scaled } from '../cluster/scaled.ts';
import { TcpRelay } from '../cluster/tcpRelay.ts';
import { Endurance, type Begin } from './endure.ts';
import { NetworkNamespace } from './networkNamespace.ts';
import { Night, type Replica, type ReplicaOptions } from './night.ts';

// Half-open TCP: each replica is in a network namespace of its own, and no FIN or RST tells that its cable is cut.

const whyNot = NetworkNamespace.whyNot();
if (whyNot !== null) console.log(`skipped, as no network namespace can be made here (root can): ${whyNot}`);

let night: Night;
let endurance: Endurance;
const relays: TcpRelay[] = [];
const places = new Map<ApiServerProxy, NetworkNamespace>();

/** A way from the namespace to a port of the machine's loopback. */
async function way(namespace: NetworkNamespace, url: string, port?: number): Promise<TcpRelay> {
  const { hostname: host, port: target } = new URL(url);
  const at = { host: namespace.host, ...(port !== undefined && { port }) };
  const relay = await TcpRelay.start({ host, port: Number(target) }, at);
  relays.push(relay);
  return relay;
}

/** AWS has one name for both replicas, or their tokens would not be the same. */
function knowingAws(namespace: NetworkNamespace): string[] {
  const hosts = join(night.cluster.dir, `hosts-${namespace.host}`);
  writeFileSync(hosts, `127.0.0.1 localhost\n${namespace.host} aws.test\n`);
  const script = `mount --bind '${hosts}' /etc/hosts && exec "$@"`;
  return [...namespace.command, 'unshare', '--mount', 'sh', '-c', script, 'sh'];
}

beforeAll(async () => {
  if (whyNot !== null) return;
  night = await Night.begin();
  const namespaces = [1, 2].map(() => NetworkNamespace.create(night.cluster.ledger));
  const options: ReplicaOptions[] = [];
  let port: number | undefined;
  for (const namespace of namespaces) {
    port = (await way(namespace, night.ecr.url, port)).port;
    options.push({
      within: { command: knowingAws(namespace), address: namespace.address },
      env: { AWS_ENDPOINT_URL: `http://aws.test:${port}` },
      tlsServerName: 'kubernetes',
      serverOf: async (proxy) => {
        places.set(proxy, namespace);
        const relay = await way(namespace, proxy.url);
        return `https://${relay.host}:${relay.port}`;
      },
    });
  }
  let started = 0;
  night.usual = () => options[started++ % options.length] ?? {};
  endurance = await Endurance.begin(night);
});
afterAll(async () => {
  await night?.end();
  await Promise.all(relays.map((relay) => relay.close()));
});

function placeOf({ proxy }: Replica): NetworkNamespace {
  const place = places.get(proxy);
  if (place === undefined) throw new Error('the replica has no namespace');
  return place;
}

describe.skipIf(whyNot !== null)('while the cable of the leader', () => {
  test('is out for less than its lease, it goes on', async () => {
    const begin: Begin = async () => {
      const place = placeOf(await night.leader());
      place.unplug();
      return () => place.plug();
    };
    expect(await endurance.under(begin, { lastsMs: 4_000 })).toEqual([]);
  });

  test.each<[string, (place: NetworkNamespace) => () => void]>([
    [
      'is out',
      (place) => {
        place.unplug();
        return () => place.plug();
      },
    ],
    [
      'swallows everything',
      (place) => {
        place.swallow();
        return () => place.deliver();
      },
    ],
  ])(
    '%s for longer than its lease, the first knows that it leads no more before the other one does',
    async (_, cut) => {
      let first: Replica | null = null;
      const begin: Begin = async () => {
        const leader = await night.leader();
        first = leader;
        return cut(placeOf(leader));
      };
      const during = async () => {
        await eventually('the other one leads', async () => {
          const others = night.replicas.filter((replica) => replica !== first);
          return (await others[0]?.operator.metric('ecr_pull_secrets_leader')) === 1;
        });
        expect(await first?.operator.metric('ecr_pull_secrets_leader')).toBe(0);
      };
      expect(await endurance.under(begin, { lastsMs: scaled(60_000, 20_000), during })).toEqual([]);
    },
  );
});

test.skipIf(whyNot !== null)(
  'while the cables of both replicas swallow everything, nothing is written, and all is afterwards',
  async () => {
    const begin: Begin = () => {
      const cut = night.replicas.map(placeOf);
      for (const place of cut) place.swallow();
      return () => {
        for (const place of cut) place.deliver();
      };
    };
    expect(await endurance.under(begin, { lastsMs: scaled(90_000, 12_000) })).toEqual([]);
  },
);

test.skipIf(whyNot !== null)('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
