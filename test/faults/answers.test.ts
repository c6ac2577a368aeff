import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Fault, InjectedAnswer, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import { scaled } from '../cluster/scaled.ts';
import { atEveryRequest, Endurance, isLease, isReading } from './endure.ts';
import { Night } from './night.ts';

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

const lastsMs = scaled(20_000, 2_500);

function status(code: number, reason: string, headers: Record<string, string> = {}): InjectedAnswer {
  const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code, reason, message: reason };
  return { status: code, headers, body };
}

const html = '<!DOCTYPE html><html><body>Please log in</body></html>';
const json = { 'content-type': 'application/json' };
const isFanOut = (request: ProxiedRequest) => !isLease(request);

describe('while every list and watch is answered with', () => {
  test.each<[string, InjectedAnswer]>([
    ['HTML as 200', { status: 200, body: html }],
    ['HTML as 502', { status: 502, body: html }],
    ['a redirect to a login page', { status: 302, headers: { location: 'https://127.0.0.1:1/login' }, body: '' }],
    ['an empty 200', { status: 200, headers: json, body: '' }],
    ['a list without the key items', { status: 200, body: { kind: 'List', metadata: { resourceVersion: '1' } } }],
    ['a Status as 200', { ...status(500, 'InternalError'), status: 200 }],
    ['a gzip bomb', { status: 200, headers: { ...json, 'content-encoding': 'gzip' }, body: bomb() }],
    ['403', status(403, 'Forbidden')],
    ['404', status(404, 'NotFound')],
    ['410', status(410, 'Expired')],
    ['an ERROR event 410', { status: 200, body: { type: 'ERROR', object: status(410, 'Expired').body } }],
  ])('%s, it is not read as an empty list: nothing is removed', async (_, answer) => {
    expect(
      await endurance.under(
        atEveryRequest((request) => (isReading(request) ? { answer } : null)),
        { lastsMs },
      ),
    ).toEqual([]);
  });
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
  expect(await endurance.afterwards()).toEqual([]);
});

/** 64 MiB of blanks. */
function bomb(): Buffer {
  return gzipSync(Buffer.alloc(64 * 2 ** 20, 0x20));
}
