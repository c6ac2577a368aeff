import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Fault, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import { createNamespaces, resource, resourcePath, told } from '../cluster/served.ts';
import { moreThan, type Counts } from './oracles/counts.ts';
import { Night } from './night.ts';

// The operator is killed at every single write that it makes: before the API server sees it, and after it is committed
// but before the answer is there. Whoever starts afterwards finds the rest and nothing else to do.

let night: Night;
let reference: { writes: string[]; counts: Counts };
/** Of every round that is over: where the audit log was, and its namespaces. Nothing is written there any more. */
const over: { prefix: string; since: number }[] = [];

beforeAll(async () => {
  night = await Night.begin({ args: ['--removal-delay=0s'] });
});
afterAll(() => night?.end());

interface Kill {
  at: number; // the n-th write, from 1
  when: 'before' | 'after';
}

interface Round {
  writes: string[]; // as they came to the proxies
  counts: Counts;
  killed: boolean;
}

/** Three namespaces are served and given up again, by operators one after the other where one is killed. */
async function round(prefix: string, kill: Kill | null): Promise<Round> {
  const namespaces = await createNamespaces(night.admin, 3, prefix);
  night.mark();
  const run = new Rounds(prefix, kill);
  await run.start();
  const served = resource(prefix, { namespaces: { names: [`${prefix}-*`] }, verification: { mode: 'Disabled' } });
  await night.admin.create(served);
  await night.whole(namespaces);
  await night.admin.delete(resourcePath(prefix));
  await night.whole([]);
  await run.stop();
  over.push({ prefix, since: night.cluster.auditMark() });
  expect(await night.violations()).toEqual([]);
  const counts = new Map([...night.counts()].map(([key, count]) => [key.replaceAll(prefix, 'round'), count]));
  return { writes: run.writes, counts, killed: run.killed };
}

/** Counts the writes, kills at the one that is meant, and starts the next operator. */
class Rounds {
  readonly writes: string[] = [];
  killed = false;
  readonly #prefix: string;
  readonly #kill: Kill | null;
  #restart: Promise<void> = Promise.resolve();

  constructor(prefix: string, kill: Kill | null) {
    this.#prefix = prefix;
    this.#kill = kill;
  }

  async start(): Promise<void> {
    await night.startReplica({
      prepare: (proxy) => {
        proxy.fault = (request) => this.#faultOf(request);
      },
    });
  }

  async stop(): Promise<void> {
    await this.#restart;
    await night.killAll();
  }

  #faultOf(request: ProxiedRequest): Fault | null {
    if (!isWrite(request)) return null;
    this.writes.push(`${request.method} ${request.path.split('?')[0]?.replaceAll(this.#prefix, 'round')}`);
    if (this.killed || this.#kill === null || this.writes.length !== this.#kill.at) return null;
    this.killed = true;
    return this.#kill.when === 'before'
      ? { before: () => this.#end(), drop: 'request' }
      : { after: () => this.#end(), drop: 'answer' };
  }

  async #end(): Promise<void> {
    await night.killAll();
    this.#restart = this.start();
  }
}

/** Everything that changes something but the Lease, reviews and dry runs. */
function isWrite({ method, path }: ProxiedRequest): boolean {
  return method !== 'GET' && !/\/leases|reviews|dryRun=All/.test(path);
}

test('the reference: a round without a fault', async () => {
  const { writes, counts } = await round('reference', null);
  reference = { writes, counts };
  console.log(`${writes.length} writes:\n  ${writes.join('\n  ')}`);
  for (const name of ['round-0', 'round-1', 'round-2']) {
    expect(counts.get(`secrets ${name}/ecr-pull`)).toEqual({ created: 1, deleted: 1 });
  }
  const deletions = writes.filter((write) => write.startsWith('DELETE'));
  expect(deletions, 'nothing is deleted twice').toEqual([...new Set(deletions)]);
});

describe.each(['before', 'after'] as const)('killed %s the API server has done', (when) => {
  test('each of the writes, one after the other', async () => {
    // So many there are in each round; the token is stored in the first alone, and how often the status is told is not always
    // the same.
    const sure = reference.writes.filter((write) => /secrets\/ecr-pull$|serviceaccounts/.test(write)).length;
    for (let at = 1; at <= reference.writes.length; at++) {
      const { counts, killed } = await round(`${when}-${at}`, { at, when });
      const which = `${when} write ${at} (${reference.writes[at - 1]})`;
      expect(moreThan(reference.counts, counts), which).toEqual([]);
      if (at <= sure) expect(killed, which).toBe(true);
    }
  });
});

test('in the end nothing is written, and to no namespace that was done with was anything written', async () => {
  await night.startReplica();
  expect(await night.quiet()).toEqual([]);
  const late = over.flatMap(({ prefix, since }) =>
    told(night.writes(since)).filter((write) => write.includes(`${prefix}-`) || write.includes(`/${prefix}:`)),
  );
  expect(late).toEqual([]);
});
