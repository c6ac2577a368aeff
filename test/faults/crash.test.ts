import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tokenStoreName } from '../../src/api/groupVersion.ts';
import type { Fault, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import { eventually } from '../cluster/eventually.ts';
import { operatorNamespace } from '../cluster/operator.ts';
import { createNamespaces, resource, resourcePath, secretPath, told } from '../cluster/served.ts';
import { moreThan, type Counts } from './oracles/counts.ts';
import { Night } from './night.ts';

// The operator is killed at every single write that it makes: before the API server sees it, and after it is committed
// but before the answer is there. Whoever starts afterwards finds the rest and nothing else to do. Of the status the
// first is meant, and of the events two: how often they are told is not always the same.

let night: Night;
let reference: Round;
/** Of every round that is over: where the audit log was, and its namespaces. Nothing is written there any more. */
const over: { prefix: string; since: number }[] = [];

beforeAll(async () => {
  night = await Night.begin({ args: ['--removal-delay=0s'] });
});
afterAll(() => night?.end());

interface Kill {
  write: string;
  when: 'before' | 'after';
}

interface Round {
  writes: string[]; // as they came to the proxies, numbered where they are alike
  counts: Counts;
  calls: number; // of AWS
  killed: boolean;
}

const tokenStore = secretPath(operatorNamespace, tokenStoreName);

/**
 * A token is fetched and stored, three namespaces are served and given up again, by operators one after the other where one
 * is killed.
 */
async function round(prefix: string, kill: Kill | null): Promise<Round> {
  const namespaces = await createNamespaces(night.admin, 3, prefix);
  await night.admin.delete(tokenStore);
  night.mark();
  const calls = night.ecr.calls.length;
  const run = new Rounds(prefix, kill);
  await run.start();
  const served = resource(prefix, { namespaces: { names: [`${prefix}-*`] }, verification: { mode: 'Disabled' } });
  await night.admin.create(served);
  await night.whole(namespaces);
  // The status and what is told of it come up to seconds later: they are waited for where they are what matters.
  if (kill === null) await eventually('both events are told', () => run.writes.filter(isEvent).length >= 2);
  else if (isTelling(kill.write)) await eventually(`killed at ${kill.write}`, () => run.killed);
  await night.admin.delete(resourcePath(prefix));
  await night.whole([]);
  await run.stop();
  over.push({ prefix, since: night.cluster.auditMark() });
  expect(await night.violations()).toEqual([]);
  const counts = new Map([...night.counts()].map(([key, count]) => [key.replaceAll(prefix, 'round'), count]));
  return { writes: run.writes, counts, calls: night.ecr.calls.length - calls, killed: run.killed };
}

/** Counts the writes, kills at the one that is meant, and starts the next operator. */
class Rounds {
  readonly writes: string[] = [];
  killed = false;
  readonly #prefix: string;
  readonly #kill: Kill | null;
  #restart: Promise<void> = Promise.resolve();
  readonly #stored = Promise.withResolvers<void>();

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
    const write = this.#noted(request);
    const isStore = request.path.startsWith(tokenStore);
    if (this.killed || write !== this.#kill?.write) return isStore ? { after: () => this.#stored.resolve() } : null;
    this.killed = true;
    // The store's is not cut by chance: whether the next one has a token is known.
    if (!isStore) return this.#killing(() => this.#stored.promise);
    return this.#killing(() => this.#stored.resolve());
  }

  #killing(first: () => Promise<void> | void): Fault {
    const dead = Promise.withResolvers<void>();
    // Known at once: the round may be over before the operator is dead, and the next one is not to live in the next round.
    this.#restart = dead.promise.then(() => this.start());
    const end = async () => {
      await first();
      dead.resolve(night.killAll());
      await dead.promise;
    };
    return this.#kill?.when === 'before' ? { before: end, drop: 'request' } : { after: end, drop: 'answer' };
  }

  #noted({ method, path }: ProxiedRequest): string {
    const name = `${method} ${path.split('?')[0]?.replaceAll(this.#prefix, 'round')}`;
    const alike = this.writes.filter((write) => write.startsWith(`${name} `)).length;
    const write = `${name} (${alike + 1})`;
    this.writes.push(write);
    return write;
  }
}

/** Everything that changes something but the Lease, reviews and dry runs. */
function isWrite({ method, path }: ProxiedRequest): boolean {
  return method !== 'GET' && !/\/leases|reviews|dryRun=All/.test(path);
}

const isEvent = (write: string): boolean => /\/events /.test(write);
const isTelling = (write: string): boolean => isEvent(write) || /\/status /.test(write);
const isSure = (write: string): boolean =>
  !isTelling(write) || write.endsWith('(1)') || (isEvent(write) && write.endsWith('(2)'));

test('the reference: a round without a fault', async () => {
  reference = await round('reference', null);
  const { writes, counts, calls } = reference;
  console.log(`${writes.length} writes:\n  ${writes.join('\n  ')}`);
  for (const name of ['round-0', 'round-1', 'round-2']) {
    expect(counts.get(`secrets ${name}/ecr-pull`)).toEqual({ created: 1, deleted: 1 });
  }
  expect(writes).toContain(`PATCH ${tokenStore} (1)`);
  expect(writes.filter(isSure).filter(isTelling)).toHaveLength(3); // the status, two events
  expect(calls).toBe(1);
  const again = writes.filter((write) => write.startsWith('DELETE') && !write.endsWith('(1)'));
  expect(again, 'nothing is deleted twice').toEqual([]);
});

describe.each(['before', 'after'] as const)('killed %s the API server has done', (when) => {
  test('each of the writes, one after the other: the token’s, each Secret’s, each entry’s, the first status, two events', async () => {
    const writes = reference.writes.filter(isSure);
    for (const [index, write] of writes.entries()) {
      const { counts, calls, killed } = await round(`${when}-${index}`, { write, when });
      const which = `${when} ${write}`;
      expect(killed, which).toBe(true);
      expect(moreThan(reference.counts, counts), which).toEqual([]);
      // Only a token that was never stored is asked for again.
      const isLost = when === 'before' && write.startsWith(`PATCH ${tokenStore} `);
      expect(calls, `AWS calls, ${which}`).toBe(isLost ? 2 : 1);
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
