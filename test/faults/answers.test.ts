import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { resourcesPath } from '../../src/api/groupVersion.ts';
import type { Fault, InjectedAnswer, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import { eventually } from '../cluster/eventually.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { servingWrites, told } from '../cluster/served.ts';
import { collectionOf, collections, everyWatchStands, kindOf } from '../cluster/watched.ts';
import { atEveryRequest, Endurance, isLease, type Begin } from './endure.ts';
import { Night, type Replica } from './night.ts';
import { toldWithinMs } from './telling.ts';

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  // A list that was read wrongly is acted on at once, not after the fault.
  night = await Night.begin({ args: ['--removal-delay=0s'] });
  endurance = await Endurance.begin(night);
});
afterEach(() => night.endFaults()); // one that failed leaves nothing to the next
afterAll(() => night?.end());

const lastsMs = scaled(20_000, 2_500);

function status(code: number, reason: string, headers: Record<string, string> = {}): InjectedAnswer {
  const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code, reason, message: reason };
  return { status: code, headers, body };
}

const html = '<!DOCTYPE html><html><body>Please log in</body></html>';
const json = { 'content-type': 'application/json' };
const isFanOut = (request: ProxiedRequest) => !isLease(request);

// What is decided upon. The CustomResourceDefinition, whose own reading would hold every removal back, is read as it is.
const isListOrWatch = (request: ProxiedRequest) =>
  request.method === 'GET' && collections.includes(collectionOf(request));

/** What was asked of each replica's proxy, kind by kind. */
class Asked {
  readonly #seen = new Set<string>();

  note(request: ProxiedRequest, replica: Replica): void {
    this.#seen.add(keyOf(collectionOf(request), replica));
  }

  has(request: ProxiedRequest, replica: Replica): boolean {
    return this.#seen.has(keyOf(collectionOf(request), replica));
  }

  /** Until each replica has asked for each of these kinds. */
  async every(of: readonly string[]): Promise<void> {
    const wanted = night.replicas.flatMap((replica) => of.map((kind) => keyOf(kind, replica)));
    await eventually('each kind was asked for by each replica', () => {
      const missing = wanted.filter((key) => !this.#seen.has(key));
      if (missing.length > 0) throw new Error(`not yet ${missing.join(', ')}`);
      return true;
    });
  }
}

const keyOf = (kind: string, { operator }: Replica): string => `${operator.process.name} ${kind}`;

const watchesStand = (of = collections): Promise<void> =>
  everyWatchStands(
    night.replicas.map(({ proxy }) => proxy),
    { of },
  );

/**
 * The watches of these kinds end, the next ones are refused as too old, and the lists that follow are answered so. Whoever
 * takes such a list for a good one has a watch that stands and shows nothing, and so no reason to doubt it.
 */
function misread(of: readonly string[], answer: InjectedAnswer, listed: Asked): Begin {
  const isMeant = (request: ProxiedRequest) => isListOrWatch(request) && of.includes(collectionOf(request));
  const faults = atEveryRequest(
    (request, replica) => {
      if (!isMeant(request)) return null;
      if (request.isWatch) return listed.has(request, replica) ? { before: () => forEver } : { answer: tooOld };
      listed.note(request, replica);
      return { answer };
    },
    { reset: false },
  );
  return async (night) => {
    const end = await faults(night);
    for (const { proxy } of night.replicas) proxy.endStreams((asked) => asked.isWatch && isMeant(asked));
    return end;
  };
}

const tooOld = status(410, 'Expired');
const forEver = new Promise<void>(() => undefined);

/** What had been told before a fault: until when, ms, and how many lists had failed, replica by replica. */
interface Before {
  at: number;
  failedLists: number[];
}

async function before(): Promise<Before> {
  const failedLists = await Promise.all(night.replicas.map(failedListsOf));
  return { at: Date.now(), failedLists };
}

async function failedListsOf({ operator }: Replica): Promise<number> {
  const failed = /^ecr_pull_secrets_kube_requests_total\{verb="list",code="(?!200)[^"]+"\} (\d+)$/gm;
  return [...(await operator.metrics()).matchAll(failed)].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** Each replica's log tells that it cannot read these kinds, since then, and its metrics count what it got instead. */
async function isToldOf(of: readonly string[], { at, failedLists }: Before): Promise<void> {
  const warned = ({ operator }: Replica) =>
    operator.logs(({ level, time, message }) => {
      return level === 'warn' && message === 'list or watch failed' && Date.parse(time) >= at;
    });
  const isEachNamed = () => {
    for (const replica of night.replicas) {
      const named = new Set(warned(replica).map(({ kind }) => kind));
      const missing = of.map((path) => kindOf.get(path)).filter((kind) => !named.has(kind));
      if (missing.length > 0) throw new Error(`${replica.operator.process.name} names no ${missing.join(', ')}`);
    }
    return true;
  };
  await eventually('a warning names each kind', isEachNamed, toldWithinMs);
  for (const [index, replica] of night.replicas.entries()) {
    const more = (await failedListsOf(replica)) - (failedLists[index] ?? 0);
    expect(more).toBeGreaterThanOrEqual(of.length);
  }
}

/** What was removed, or written anywhere but where life went on. */
function wrongWrites(since: number): string[] {
  const writes = servingWrites(night.cluster, since);
  const elsewhere = writes.filter(({ objectRef }) => !objectRef?.namespace?.startsWith(`${endurance.round}-`));
  return told([...new Set([...writes.filter(({ verb }) => verb === 'delete'), ...elsewhere])]);
}

const noLists: [string, InjectedAnswer][] = [
  ['HTML as 200', { status: 200, body: html }],
  ['HTML as 502', { status: 502, body: html }],
  ['a redirect to a login page', { status: 302, headers: { location: 'https://127.0.0.1:1/login' }, body: '' }],
  ['an empty 200', { status: 200, headers: json, body: '' }],
  ['a list without the key items', { status: 200, body: { kind: 'List', metadata: { resourceVersion: '1' } } }],
  ['a Status as 200', { ...status(500, 'InternalError'), status: 200 }],
  ['a gzip bomb', { status: 200, headers: { ...json, 'content-encoding': 'gzip' }, body: bomb() }],
  ['403', status(403, 'Forbidden')],
  ['404', status(404, 'NotFound')],
  ['410', tooOld],
];

describe('while every list is answered with', () => {
  beforeEach(() => watchesStand());

  // An empty list of the resources would be the end of every Secret, as long as the namespaces are known.
  const groups = isLong
    ? [...collections.toReversed().map((kind) => [kind]), collections]
    : [[resourcesPath], collections.filter((kind) => kind !== resourcesPath)];
  const holdsMs = scaled(5_000, 1_500);

  test.each(noLists)('%s, it is not read as an empty list: nothing is removed', async (_, answer) => {
    const since = night.cluster.auditMark();
    const [first = [], ...others] = groups;
    const [listed, begun] = [new Asked(), await before()];
    const isMet = async (group: readonly string[], asked: Asked, told: Before) => {
      await asked.every(group);
      await isToldOf(group, told);
      await sleep(holdsMs);
    };
    const during = async () => {
      await isMet(first, listed, begun);
      for (const group of others) {
        night.endFaults();
        await watchesStand(group);
        const [anew, now] = [new Asked(), await before()];
        await misread(group, answer, anew)(night);
        await isMet(group, anew, now);
      }
      expect(wrongWrites(since)).toEqual([]);
    };
    expect(await endurance.under(misread(first, answer, listed), { lastsMs: 0, during })).toEqual([]);
  });
});

test('while every watch is answered with pages, empty bodies and refusals in turn, nothing is removed', async () => {
  await watchesStand();
  const since = night.cluster.auditMark();
  let answered = 0;
  const begin = atEveryRequest(({ isWatch }) => {
    const [, answer] = noLists[answered % noLists.length] ?? [];
    return isWatch && answer && ++answered ? { answer } : null;
  });
  const during = async () => {
    await eventually('each has been the answer', () => answered >= noLists.length);
    expect(wrongWrites(since)).toEqual([]);
  };
  expect(await endurance.under(begin, { lastsMs, during })).toEqual([]);
});

test('while every watch ends in an ERROR event 410, each kind is listed anew, and nothing is removed', async () => {
  await watchesStand();
  const body = `${JSON.stringify({ type: 'ERROR', object: tooOld.body })}\n`;
  const listed = new Asked();
  const since = night.cluster.auditMark();
  const begin = atEveryRequest((request, replica) => {
    if (request.isWatch) return { answer: { status: 200, headers: json, body } };
    if (isListOrWatch(request)) listed.note(request, replica);
    return null;
  });
  const during = async () => {
    await listed.every(collections);
    expect(wrongWrites(since)).toEqual([]);
  };
  expect(await endurance.under(begin, { lastsMs, during })).toEqual([]);
});

describe('while every request but the lease’s is answered with', () => {
  const inSeconds = (seconds: number): string => new Date(Date.now() + seconds * 1_000).toUTCString();
  test.each<[string, () => InjectedAnswer]>([
    ['429 and seconds', () => status(429, 'TooManyRequests', { 'retry-after': '2' })],
    ['429 and a date', () => status(429, 'TooManyRequests', { 'retry-after': inSeconds(3) })],
    ['429 alone', () => status(429, 'TooManyRequests')],
    ['500', () => status(500, 'InternalError')],
    ['503', () => status(503, 'ServiceUnavailable')],
    ['504', () => status(504, 'Timeout')],
    ['401', () => status(401, 'Unauthorized')],
  ])('%s, the operator waits and then catches up', async (_, answer) => {
    expect(
      await endurance.under(
        atEveryRequest((request) => (isFanOut(request) ? { answer: answer() } : null)),
        { lastsMs },
      ),
    ).toEqual([]);
  });
});

const isWrite = (request: ProxiedRequest) => request.method !== 'GET' && isFanOut(request);

describe('while every write', () => {
  test.each<[string, Fault]>([
    ['is lost on its way', { drop: 'request' }],
    ['is carried out and its answer lost', { drop: 'answer' }],
    ['takes two seconds', { delayMs: 2_000 }],
    ['takes longer than the operator waits', { delayMs: 9_000 }],
    ['is refused as forbidden by somebody else', { answer: status(403, 'Forbidden') }],
    ['meets a conflict', { answer: status(409, 'Conflict') }],
    ['is answered with HTML as 200', { answer: { status: 200, body: html } }],
  ])('%s, the operator does it again and nothing twice', async (_, fault) => {
    expect(
      await endurance.under(
        atEveryRequest((request) => (isWrite(request) ? fault : null), { reset: false }),
        { lastsMs, lingersMs: fault.delayMs ?? 0 },
      ),
    ).toEqual([]);
  });
});

test('while every request takes two seconds, the lease’s too, the operator keeps the lease and does its work', async () => {
  expect(
    await endurance.under(
      atEveryRequest(() => ({ delayMs: 2_000 }), { reset: false }),
      { lastsMs: 15_000 },
    ),
  ).toEqual([]);
});

test('afterwards nothing is written', async () => {
  await watchesStand(); // what failed last may wait for half a minute
  expect(await endurance.afterwards()).toEqual([]);
});

/** 64 MiB of blanks. */
function bomb(): Buffer {
  return gzipSync(Buffer.alloc(64 * 2 ** 20, 0x20));
}
