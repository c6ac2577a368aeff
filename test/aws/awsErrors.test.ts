import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AuthorizationTokenSource } from '../../src/aws/authorizationToken.ts';
import { explainAwsError, type AwsCall } from '../../src/aws/awsErrors.ts';
import type { AssumeRoleStep, CredentialSource } from '../../src/aws/identity.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import { outcomeOf } from '../../src/errors.ts';
import { FakeClock } from '../fakeClock.ts';
import { AwsServer, jsonError, sessionAnswer, stsError, type Answer } from './awsServer.ts';

const source = {
  kind: 'accessKey',
  secretName: 'aws/aws-credentials',
  accessKeyId: 'AKIAUSER',
  secretAccessKey: 'user-secret',
} as const;
const asked: AwsCall = {
  ...{ action: 'ecr:GetAuthorizationToken', region: 'eu-wset-1', host: 'api.ecr.eu-wset-1.amazonaws.com' },
  ...{ source, roleArn: null, secrets: ['user-secret'] },
};
const assuming: AwsCall = {
  ...{ ...asked, action: 'sts:AssumeRole', host: 'sts.eu-wset-1.amazonaws.com' },
  roleArn: 'arn:aws:iam::222222222222:role/pull',
};

/** As Node and the SDK throw them. */
function thrown(fields: object): Error {
  return Object.assign(new Error('words of somebody else'), fields);
}

const NETWORK = 'look at firewalls, network policies and HTTPS_PROXY';
const table: [what: string, error: Error, call: AwsCall, code: string, message: string | RegExp][] = [
  [
    'a name that is not there may be a mistyped region',
    thrown({ code: 'ENOTFOUND' }),
    asked,
    'HostNotFound',
    /^the name api\.ecr\.eu-wset-1\.amazonaws\.com does not exist: the region eu-wset-1 may be mistyped, or DNS /,
  ],
  [
    'so may one for which DNS has no answer',
    thrown({ code: 'EAI_AGAIN' }),
    asked,
    'DnsFailure',
    /^DNS does not answer for api\.ecr\.eu-wset-1\.amazonaws\.com: look at the cluster's DNS.*region eu-wset-1 may be mistyped/,
  ],
  [
    'and one to which a proxy opens no tunnel',
    thrown({ code: 'ERR_PROXY_TUNNEL', statusCode: 502 }),
    asked,
    'ProxyRefused',
    /^the proxy opens no tunnel to api\.ecr\.eu-wset-1\.amazonaws\.com \(HTTP 502\): .*region eu-wset-1 may be mistyped.*NO_PROXY/,
  ],
  [
    'a proxy that wants a password is told so, and no region is blamed',
    thrown({ code: 'ERR_PROXY_TUNNEL', statusCode: 407 }),
    asked,
    'ProxyRefused',
    'the proxy opens no tunnel to api.ecr.eu-wset-1.amazonaws.com (HTTP 407): put its user and password into HTTPS_PROXY, or the host into NO_PROXY',
  ],
  [
    'a refused connection',
    thrown({ code: 'ECONNREFUSED' }),
    asked,
    'Unreachable',
    `api.ecr.eu-wset-1.amazonaws.com cannot be reached (ECONNREFUSED): ${NETWORK}`,
  ],
  [
    'silence',
    thrown({ name: 'TimeoutError' }),
    asked,
    'Unreachable',
    `api.ecr.eu-wset-1.amazonaws.com does not answer in time or closes the connection: ${NETWORK}`,
  ],
  [
    'a certificate that has ended',
    thrown({ code: 'CERT_HAS_EXPIRED' }),
    asked,
    'CertificateUntrusted',
    /^the certificate of api\.ecr\.eu-wset-1\.amazonaws\.com is not trusted \(CERT_HAS_EXPIRED\): /,
  ],
  [
    'what speaks no TLS',
    thrown({ code: 'EPROTO' }),
    asked,
    'TlsFailed',
    'TLS with api.ecr.eu-wset-1.amazonaws.com fails (EPROTO): what answers there speaks none, or none of ours: look at HTTPS_PROXY, AWS_ENDPOINT_URL and whatever inspects TLS',
  ],
  [
    'what cannot be read',
    thrown({ name: 'SyntaxError' }),
    asked,
    'NotAnAwsAnswer',
    /api\.ecr\.eu-wset-1\.amazonaws\.com is not AWS's: is there a proxy or a login page in between/,
  ],
  [
    'throttling',
    thrown({ name: 'ThrottlingException', $fault: 'client' }),
    asked,
    'Throttled',
    'AWS throttles ecr:GetAuthorizationToken in eu-wset-1: too many calls of the account. It is asked again later; look for what else asks so often',
  ],
  [
    'a fault of AWS',
    thrown({ name: 'ServerException', $fault: 'server', $metadata: { httpStatusCode: 500 } }),
    asked,
    'ServerError',
    "AWS has a fault at api.ecr.eu-wset-1.amazonaws.com (HTTP 500): it is asked again; look at AWS's status page",
  ],
  [
    'keys that may not assume a role: they are blamed, and not the role',
    thrown({ name: 'AccessDenied', message: 'User: arn:aws:iam::1:user/u is not authorized', $fault: 'client' }),
    assuming,
    'AccessDenied',
    /^AWS refuses sts:AssumeRole in eu-wset-1 to the keys of the Secret aws\/aws-credentials \(for the role arn:aws:iam::222222222222:role\/pull\): User: .*trust policy/,
  ],
  [
    'keys that STS does not know: they are blamed, and not the role',
    thrown({ name: 'InvalidClientTokenId', $fault: 'client' }),
    assuming,
    'InvalidCredentials',
    /^AWS does not accept the keys of the Secret aws\/aws-credentials \(for the role arn:aws:iam::222222222222:role\/pull\) for sts:AssumeRole/,
  ],
];

test.each(table)('%s', (_, error, call, code, message) => {
  const explained = explainAwsError(error, call);
  expect(explained.code).toBe(code);
  if (typeof message === 'string') expect(explained.message).toBe(message);
  else expect(explained.message).toMatch(message);
});

const keys: CredentialSource = source;
const role: AssumeRoleStep = { roleArn: 'arn:aws:iam::222222222222:role/pull' };

/** How a refresh fails whose AWS is this one, after one try. */
async function failureAt(url: string, o: { chain?: AssumeRoleStep[]; env?: Record<string, string>; clock?: Clock }) {
  const { chain = [], env = {}, clock = systemClock } = o;
  const silent = (): void => {};
  const tokens = new AuthorizationTokenSource({
    env: { AWS_ENDPOINT_URL: url, AWS_EC2_METADATA_DISABLED: 'true', AWS_MAX_ATTEMPTS: '1', ...env },
    clock,
    log: { debug: silent, info: silent, warn: silent, error: silent } as never,
    metrics: { awsRequest: silent },
    redactor: { add: silent },
  });
  const identity = { source: env['AWS_ROLE_ARN'] === undefined ? keys : ({ kind: 'operator' } as const), chain };
  const request = { identity, service: 'ecr', region: 'eu-west-1' } as const;
  return tokens.fetch(request, new AbortController().signal).then(
    () => ({ kind: 'none', code: '', message: '' }),
    (error: unknown) => ({ code: '', message: '', ...outcomeOf(error) }),
  );
}

describe('as AWS spells it', () => {
  const ofEcr: [name: string, status: number, kind: string, code: string, message: RegExp][] = [
    ['IncompleteSignatureException', 400, 'Configuration', 'InvalidCredentials', /a key is wrong/],
    ['RegionDisabledException', 403, 'Configuration', 'RegionDisabled', /region eu-west-1 is not enabled/],
    ['InvalidParameterException', 400, 'Configuration', 'InvalidRequest', /finds ecr:GetAuthorizationToken .* invalid/],
    ['InternalFailure', 500, 'Transient', 'ServerError', /a fault at .* \(HTTP 500\)/],
    ['ServiceUnavailableException', 503, 'Transient', 'ServerError', /a fault at .* \(HTTP 503\)/],
  ];
  test.each(ofEcr)('by ECR: %s with %i', async (name, status, kind, code, message) => {
    await using aws = await AwsServer.start();
    aws.answers['GetAuthorizationToken'] = jsonError(name, 'words of AWS', { status });
    const failure = await failureAt(aws.url, {});
    expect(failure).toMatchObject({ kind, code, message: expect.stringMatching(message) as string });
  });

  const ofSts: typeof ofEcr = [
    ['IncompleteSignature', 400, 'Configuration', 'InvalidCredentials', /for the role .*role\/pull.*a key is wrong/],
    ['RegionDisabledException', 403, 'Configuration', 'RegionDisabled', /not enabled for .*role\/pull/],
    ['ExpiredToken', 403, 'Configuration', 'ExpiredCredentials', /the keys have expired/],
    ['InternalFailure', 500, 'Transient', 'ServerError', /a fault at .* \(HTTP 500\)/],
  ];
  test.each(ofSts)('by STS: %s with %i', async (name, status, kind, code, message) => {
    await using aws = await AwsServer.start();
    aws.answers['AssumeRole'] = stsError(name, 'words of AWS', status);
    const failure = await failureAt(aws.url, { chain: [role] });
    expect(failure).toMatchObject({ kind, code, message: expect.stringMatching(message) as string });
  });

  const ofWebIdentity: typeof ofEcr = [
    ['IDPRejectedClaim', 403, 'Configuration', 'InvalidIdentityToken', /web identity token .*trust policy/],
    ['IDPCommunicationError', 400, 'Transient', 'IdentityProviderUnreachable', /cannot reach the issuer/],
  ];
  test.each(ofWebIdentity)('by STS of a web identity: %s with %i', async (name, status, kind, code, message) => {
    await using aws = await AwsServer.start();
    aws.answers['AssumeRoleWithWebIdentity'] = stsError(name, 'words of AWS', status);
    const file = join(mkdtempSync(join(tmpdir(), 'token-')), 'token');
    writeFileSync(file, 'jwt');
    const env = { AWS_WEB_IDENTITY_TOKEN_FILE: file, AWS_ROLE_ARN: role.roleArn };
    const failure = await failureAt(aws.url, { env });
    expect(failure).toMatchObject({ kind, code, message: expect.stringMatching(message) as string });
  });
});

describe('a gateway before AWS that answers in JSON', () => {
  const gateway =
    (status: number, body: object): Answer =>
    (_request, response) =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  const bodies = [{ message: 'Bad Gateway' }, { error: { code: 502, message: 'upstream' } }, {}];
  test.each([502, 504].flatMap((status) => bodies.map((body) => [status, body] as const)))(
    'with %i and %o is asked again, and AWS is not blamed',
    async (status, body) => {
      await using aws = await AwsServer.start();
      for (const operation of ['GetAuthorizationToken', 'AssumeRole']) {
        aws.answers['AssumeRole'] = sessionAnswer();
        aws.answers[operation] = gateway(status, body);
        const failure = await failureAt(aws.url, { chain: [role] });
        expect(failure).toMatchObject({ kind: 'Transient', code: 'NotAnAwsAnswer' });
        expect(failure.message).toContain(`HTTP ${status}`);
        expect(failure.message).toMatch(/is there a proxy or a login page in between/);
      }
    },
  );
});

test('a port that speaks no TLS is told as such', async () => {
  const plain = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  });
  await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
  const failure = await failureAt(`https://127.0.0.1:${(plain.address() as AddressInfo).port}`, {});
  plain.close();
  expect(failure).toMatchObject({ kind: 'Configuration', code: 'TlsFailed' });
});

test('STS that never answers is told with the role', async () => {
  await using aws = await AwsServer.start();
  const clock = new FakeClock();
  aws.answers['AssumeRole'] = () => void clock.advance(30_000);
  const failure = await failureAt(aws.url, { chain: [role], clock });
  expect(failure).toMatchObject({ kind: 'Transient', code: 'Unreachable' });
  expect(failure.message).toMatch(
    /within 30 s \(ecr:GetAuthorizationToken, or STS before it for the role .*role\/pull\): /,
  );
});
