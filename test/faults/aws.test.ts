import type { ServerResponse } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isLong } from '../cluster/scaled.ts';
import { askForRefresh, waitForCondition } from '../cluster/served.ts';
import type { StandInEcr } from '../cluster/standInEcr.ts';
import { Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

type Fault = Pick<StandInEcr, 'fault'> | Pick<StandInEcr, 'instead'>;

const refused = (type: string, status = 400): Fault => ({ fault: { status, type } });
const answered = (status: number, body: string): Fault => ({
  instead: (response: ServerResponse) => response.writeHead(status, { 'content-type': 'text/html' }).end(body),
});

/** A refresh is asked for while AWS does this. */
function whileAws(fault: Fault): Begin {
  return async ({ admin, ecr }) => {
    await ecr.rested();
    Object.assign(ecr, fault);
    await askForRefresh(admin);
    return () => {
      Object.assign(ecr, { fault: null, instead: null });
    };
  };
}

const all: [name: string, fault: Fault, message: RegExp][] = [
  ['refuses the call', refused('AccessDeniedException'), /Allow ecr:GetAuthorizationToken/],
  ['throttles', refused('ThrottlingException'), /throttles/],
  ['is a login page with 200', answered(200, '<html>'), /proxy or a login page/],
  ['closes the connection', { instead: (response) => void response.destroy() }, /closes the connection|reached/],
  ['does not know the keys', refused('UnrecognizedClientException', 403), /a key is wrong/],
  ['says that the session has ended', refused('ExpiredTokenException', 403), /expired/],
  ['has a fault', refused('ServerException', 500), /fault|HTTP 500/],
  ['is a login page with 502', answered(502, '<html>'), /proxy or a login page/],
  ['answers nothing', answered(200, ''), /.+/],
];
const inShort = 4;
if (!isLong) console.log(`${all.length - inShort} more answers of AWS with --long: each takes twenty seconds`);

describe('while AWS', () => {
  test.each(isLong ? all : all.slice(0, inShort))(
    '%s, every good token stays, it is told, and a fresh one comes after',
    async (_, fault, message) => {
      const during = async () => {
        const told = await waitForCondition(night.admin, 'Refreshed', ({ status }) => status === 'False');
        expect(told.message).toMatch(message);
      };
      // The SDK tries three times within one call; the operator again after ten seconds.
      expect(await endurance.under(whileAws(fault), { lastsMs: 500, during, calls: 6 })).toEqual([]);
      await waitForCondition(night.admin, 'Refreshed', ({ status }) => status === 'True', { timeoutMs: 30_000 });
      await waitForCondition(night.admin, 'Ready', ({ status }) => status === 'True');
      await night.whole(endurance.namespaces);
    },
  );
});

test('afterwards nothing is written, and AWS is left alone', async () => {
  const calls = night.ecr.calls.length;
  expect(await night.quiet()).toEqual([]);
  expect(night.ecr.calls.length).toBe(calls);
});
