import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Fault } from '../cluster/apiServerProxy.ts';
import { eventually } from '../cluster/eventually.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { askForRefresh, accountPath, createNamespaces, secretPath, waitForToken } from '../cluster/served.ts';
import { atEveryRequest, Endurance, type Begin } from './endure.ts';
import { Night, type Replica } from './night.ts';

// A slow API server, little memory, and the end in the middle of a write.

const heapMiB = 64;
let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin({ env: { NODE_OPTIONS: `--max-old-space-size=${heapMiB}` } });
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

async function askForToken(): Promise<void> {
  const { admin, ecr } = night;
  await ecr.rested();
  const calls = ecr.calls.length;
  await askForRefresh(admin);
  await eventually('AWS is asked', () => ecr.calls.length > calls);
}

describe('while the leader gets SIGTERM', () => {
  const objects: [what: string, object: () => string][] = [
    ['in the middle of a write of a Secret', () => secretPath(`${endurance.round}-a`)],
    ['in the middle of a write of a ServiceAccount', () => accountPath(`${endurance.round}-b`)],
  ];
  const moments = ['before the API server has it', 'before its answer is there'] as const;
  const cases = objects.flatMap(([what, object]) => moments.map((moment) => [what, moment, object] as const));

  test.each(cases)('%s, %s, it ends with 0 and the other goes on', async (_, moment, object) => {
    const ended: Replica[] = [];
    const terminate = async (replica: Replica) => {
      if (ended.push(replica) > 1) return;
      replica.operator.process.kill('SIGTERM');
      await sleep(1_000);
    };
    const fault = (replica: Replica): Fault => {
      const hook = () => terminate(replica);
      return moment === 'before the API server has it' ? { before: hook } : { after: hook };
    };
    const begin: Begin = (night) => {
      const of = object();
      return atEveryRequest(
        ({ method, path }, replica) => (method === 'PATCH' && path.startsWith(`${of}?`) ? fault(replica) : null),
        { reset: false },
      )(night);
    };
    expect(await endurance.under(begin, { lastsMs: 3_000 })).toEqual([]);
    const operator = ended[0]?.operator;
    expect(await operator?.exited).toEqual({ code: 0, signal: null });
    expect(operator?.logs(({ message }) => message === 'stopped')).toHaveLength(1);
    await night.restaff();
  });
});

describe('while every request takes two seconds', () => {
  const slowly: Begin = atEveryRequest(() => ({ delayMs: 2_000 }), { reset: false });

  test('the operator refreshes every namespace and keeps the lease', async () => {
    const during = async () => {
      await askForToken();
      const { namespaces } = endurance;
      await waitForToken(night.admin, { namespaces, auth: () => night.ecr.issued.at(-1)?.auth, timeoutMs: 30_000 });
    };
    const before = await night.leader();
    expect(await endurance.under(slowly, { lastsMs: scaled(120_000, 5_000), during, calls: 1 })).toEqual([]);
    expect(await night.leader()).toBe(before);
  });

  test('and the leader gets SIGTERM, it ends within ten seconds, and the other goes on', async () => {
    let tookMs = Infinity;
    const begin: Begin = async (night) => {
      const end = await slowly(night);
      const { operator } = await night.leader();
      const from = performance.now();
      expect(await operator.stop()).toBe(0);
      tookMs = performance.now() - from;
      return end;
    };
    expect(await endurance.under(begin, { lastsMs: 5_000 })).toEqual([]);
    expect(tookMs).toBeLessThan(10_000);
    await night.restaff();
  });
});

test(`while the heap is ${heapMiB} MiB and there are ${scaled(2_000, 300)} namespaces, the operator serves and refreshes all of them`, async () => {
  const made = new Set<string>(); // these have no like in the reference
  const begin: Begin = async ({ admin }) => {
    const many = await createNamespaces(admin, scaled(2_000, 300), 'many');
    for (const name of many) made.add(`secrets ${name}/ecr-pull: made 1 times, 0 without the fault`);
    endurance.alsoServes(...many);
    await night.whole(endurance.namespaces);
    return () => undefined;
  };
  const during = async () => {
    await askForToken();
    const { namespaces } = endurance;
    await waitForToken(night.admin, { namespaces, auth: () => night.ecr.issued.at(-1)?.auth });
  };
  const broken = await endurance.under(begin, { lastsMs: 1_000, during, calls: 1 });
  expect(broken.filter((text) => !made.has(text))).toEqual([]);
  expect(night.replicas).toHaveLength(2);
  const memory = night.replicas.map(({ operator }) => Math.round(operator.memory() / 2 ** 20));
  console.log(`resident memory: ${memory.join(' and ')} MiB${isLong ? '' : '; 2000 namespaces with --long'}`);
  for (const mebibytes of memory) expect(mebibytes).toBeLessThan(heapMiB + 130);
});

test('afterwards nothing is written', async () => {
  expect(await endurance.quiet()).toEqual([]);
});
