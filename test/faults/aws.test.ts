import type { ServerResponse } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isLong } from '../cluster/scaled.ts';
import { eventually } from '../cluster/eventually.ts';
import { askForRefresh, resourcePath } from '../cluster/served.ts';
import type { StandInEcr } from '../cluster/standInEcr.ts';
import { Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';
import { leaks } from './oracles/secrecy.ts';
import { isTold, isToldNoMore, sumOf } from './telling.ts';

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

type Fault = Partial<Pick<StandInEcr, 'fault' | 'instead' | 'stsFault' | 'stsInstead'>>;

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
      Object.assign(ecr, { fault: null, instead: null, stsFault: null, stsInstead: null });
    };
  };
}

interface Answer {
  name: string;
  fault: Fault;
  reason: string;
  message: RegExp; // cause, object, remedy
}

const page = /^[\d.dkrec]+.*: 127\.0\.0\.1 answered HTTP \d+ .*: is there a proxy or a login page/;
const all: Answer[] = [
  {
    name: 'refuses the call',
    fault: refused('AccessDeniedException'),
    reason: 'AccessDenied',
    message: /^1234.*: AWS refuses ecr:GetAuthorizationToken in us-east-1 to .*Allow ecr:GetAuthorizationToken/,
  },
  {
    name: 'throttles',
    fault: refused('ThrottlingException'),
    reason: 'Throttled',
    message: /^1234.*: AWS throttles ecr:GetAuthorizationToken in us-east-1.*look for what else asks so often/,
  },
  { name: 'is a login page with 200', fault: answered(200, '<html>'), reason: 'NotAnAwsAnswer', message: page },
  {
    name: 'closes the connection',
    fault: { instead: (response) => void response.destroy() },
    reason: 'Unreachable',
    message: /^1234.*: 127\.0\.0\.1 .*closes the connection.*: look at firewalls/,
  },
  {
    name: 'does not know the keys',
    fault: refused('UnrecognizedClientException', 403),
    reason: 'InvalidCredentials',
    message: /^1234.*: AWS does not accept .*in us-east-1: a key is wrong/,
  },
  {
    name: 'says that the session has ended',
    fault: refused('ExpiredTokenException', 403),
    reason: 'ExpiredCredentials',
    message: /^1234.*: the session of .* has expired.*look at where it comes from/,
  },
  {
    name: 'has a fault',
    fault: refused('ServerException', 500),
    reason: 'ServerError',
    message: /^1234.*: AWS has a fault at 127\.0\.0\.1 \(HTTP 500\).*look at AWS's status page/,
  },
  { name: 'is a login page with 502', fault: answered(502, '<html>'), reason: 'NotAnAwsAnswer', message: page },
  {
    name: 'answers nothing',
    fault: answered(200, ''),
    reason: 'EmptyAnswer',
    message: /^1234.*: 127\.0\.0\.1 answered .*without a token: is it AWS that answers/,
  },
];
const inShort = 4;
if (!isLong) console.log(`${all.length - inShort} more answers of AWS with --long: each takes twenty seconds`);

/** Told while it lasts, and no more after; every good token stays, and a fresh one comes. */
async function endured({ fault, reason, message }: Answer): Promise<string[]> {
  const sample = `ecr_pull_secrets_refresh_failures_total{reason="${reason}"}`;
  const above = await sumOf(night, sample);
  const during = async () => {
    await isTold(night, { condition: { type: 'Refreshed', reason, message }, metric: { sample, above } });
  };
  // The SDK tries three times within one call; the operator again after ten seconds.
  const broken = await endurance.under(whileAws(fault), { lastsMs: 500, during, calls: 6 });
  await isToldNoMore(night, 'Refreshed');
  await isToldNoMore(night, 'Ready');
  await night.whole(endurance.namespaces);
  return broken;
}

describe('while AWS', () => {
  test.each((isLong ? all : all.slice(0, inShort)).map((answer) => [answer.name, answer] as const))(
    '%s, every good token stays, it is told, and a fresh one comes after',
    async (_, answer) => expect(await endured(answer)).toEqual([]),
  );
});

describe('while STS, whose role asks for the tokens,', () => {
  const roleArn = 'arn:aws:iam::210987654321:role/pull';

  /** From now on the role asks. */
  beforeAll(async () => {
    const { admin, ecr } = night;
    await ecr.rested();
    const before = ecr.issued.length;
    const credentials = { operatorIdentity: {}, assumeRoleChain: [{ roleArn }] };
    await admin.patch(resourcePath(), { spec: { credentials } });
    await eventually('the role has its token', () => ecr.issued.length > before);
    await night.whole(endurance.namespaces);
  });

  const answers: Answer[] = [
    {
      name: 'refuses the role',
      fault: {
        stsFault: { status: 403, type: 'AccessDenied', message: 'User: arn:aws:iam::1:user/u is not authorized' },
      },
      reason: 'AccessDenied',
      message: /^1234.*: AWS refuses sts:AssumeRole in us-east-1 to .*for the role .*:role\/pull.*trust policy must/,
    },
    {
      name: 'says that the session has ended',
      fault: { stsFault: { status: 403, type: 'ExpiredToken' } },
      reason: 'ExpiredCredentials',
      message: /^1234.*: the session of .*for the role .*:role\/pull.* has expired.*look at where it comes from/,
    },
  ];
  const chosen = isLong ? answers : answers.slice(0, 1);
  if (!isLong) console.log(`${answers.length - chosen.length + 1} more answers of STS with --long`);

  test.each(chosen.map((answer) => [answer.name, answer] as const))(
    '%s, every good token stays, it is told with the role, and a fresh one comes after',
    async (_, answer) => {
      const calls = night.ecr.stsCalls.length;
      expect(await endured(answer)).toEqual([]);
      const asked = night.ecr.stsCalls.slice(calls);
      expect(asked.filter(({ status }) => status === answer.fault.stsFault?.status)).not.toEqual([]);
      expect(new Set(asked.map((call) => call.roleArn))).toEqual(new Set([roleArn]));
      expect(night.ecr.calls.at(-1)?.accessKeyId).toMatch(/^ASIA/);
    },
  );

  test.runIf(isLong)('does not answer, every good token stays, it is told, and a fresh one comes after', async () => {
    const reason = 'Unreachable';
    const sample = `ecr_pull_secrets_refresh_failures_total{reason="${reason}"}`;
    const above = await sumOf(night, sample);
    const message = /^1234.*: AWS in us-east-1 has not answered within 30 s .*role\/pull.*: look at firewalls/;
    const during = async () => {
      // A call of AWS has half a minute for itself.
      await isTold(night, { condition: { type: 'Refreshed', reason, message }, metric: { sample, above } }, 40_000);
    };
    const fault = { stsInstead: () => undefined };
    expect(await endurance.under(whileAws(fault), { lastsMs: 500, during, calls: 2 })).toEqual([]);
    await isToldNoMore(night, 'Refreshed');
    await night.whole(endurance.namespaces);
  });

  test('nothing that prints shows what the role was given', () => {
    expect(night.ecr.sessionSecrets.length).toBeGreaterThan(0);
    const outputs = night.replicas.map(({ operator }) => [operator.process.name, operator.output()] as const);
    expect(leaks(new Map(outputs), night.ecr.sessionSecrets)).toEqual([]);
  });
});

test('afterwards nothing is written, and AWS is left alone', async () => {
  const calls = night.ecr.calls.length;
  expect(await endurance.quiet()).toEqual([]);
  expect(night.ecr.calls.length).toBe(calls);
});
