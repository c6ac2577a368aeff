import { createServer as createHttpsServer } from 'node:https';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  AuthorizationTokenSource,
  tokenKey,
  type AuthorizationToken,
  type TokenRequest,
} from '../../src/aws/authorizationToken.ts';
import type { AssumeRoleStep, CredentialSource } from '../../src/aws/identity.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import { ConfigurationError, StoppedError, ThrottledError, TransientError } from '../../src/errors.ts';
import { FakeClock } from '../fakeClock.ts';
import {
  AwsServer,
  HOUR,
  htmlAnswer,
  jsonError,
  sessionAnswer,
  stsError,
  tokenAnswer,
  type Answer,
} from './awsServer.ts';
import { selfSignedCertificate } from './selfSignedCertificate.ts';

const KEYS: CredentialSource = {
  kind: 'accessKey',
  secretName: 'aws/aws-credentials',
  accessKeyId: 'AKIACANARYCANARYCANA',
  secretAccessKey: 'canary/secret+key/canary/secret+key/canary',
};
const ROLE: AssumeRoleStep = { roleArn: 'arn:aws:iam::012345678901:role/pull' };

function requestOf(
  o: Partial<TokenRequest> & { source?: CredentialSource; chain?: AssumeRoleStep[] } = {},
): TokenRequest {
  const { source = KEYS, chain = [], service = 'ecr', region = 'eu-west-1' } = o;
  return { identity: { source, chain }, service, region };
}

function sourceOf(env: NodeJS.ProcessEnv, clock: Clock = systemClock) {
  const lines: string[] = [];
  const counted: string[] = [];
  const secrets: string[] = [];
  const line = (fields: object, message: string): void => void lines.push(JSON.stringify(fields) + message);
  const log = { debug: line, info: line, warn: line, error: line } as never;
  const source = new AuthorizationTokenSource({
    env,
    clock,
    log,
    metrics: { awsRequest: (...labels) => void counted.push(labels.join(' ')) },
    redactor: { add: (secret) => void secrets.push(secret) },
  });
  const fetch = (request: TokenRequest, signal = new AbortController().signal): Promise<AuthorizationToken> =>
    source.fetch(request, signal);
  return { source, fetch, lines, counted, secrets };
}

async function failureOf(promise: Promise<unknown>): Promise<Error & { code: string }> {
  const error: unknown = await promise.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  return error as Error & { code: string };
}

describe('a token', () => {
  test('is asked for in the region of the registry, and its times are those of the server', async () => {
    await using aws = await AwsServer.start();
    const date = new Date('2031-05-01T10:00:00Z');
    aws.answers.GetAuthorizationToken = tokenAnswer({ date, token: btoa('AWS:password') });
    const { fetch, source, counted, secrets } = sourceOf(aws.env);
    const token = await fetch(requestOf({ region: 'ap-southeast-2' }));
    expect(token).toEqual({
      auth: btoa('AWS:password'),
      issuedAt: date,
      expiresAt: new Date(date.getTime() + 12 * HOUR),
      sessionEndsAt: null,
    });
    expect(aws.requests).toMatchObject([{ service: 'ecr', region: 'ap-southeast-2', sessionToken: undefined }]);
    expect(counted).toEqual(['ecr GetAuthorizationToken 200']);
    expect(secrets).toEqual([KEYS.accessKeyId, KEYS.secretAccessKey, btoa('AWS:password')]);
    expect(source.serverTimeOffsetMs()).toBeGreaterThan(HOUR);
  });

  test('of ECR Public is asked for in us-east-1, whatever the environment says', async () => {
    await using aws = await AwsServer.start();
    const { fetch } = sourceOf({ ...aws.env, AWS_REGION: 'eu-west-1' });
    const token = await fetch(requestOf({ service: 'ecr-public', region: 'eu-west-1', chain: [ROLE] }));
    expect(atob(token.auth)).toMatch(/^AWS:password/);
    expect(aws.requests.map(({ service, region }) => [service, region])).toEqual([
      ['sts', 'us-east-1'],
      ['ecr-public', 'us-east-1'],
    ]);
  });

  test("of three regions has each call signed for its own, the chain's too", async () => {
    await using aws = await AwsServer.start();
    const { fetch } = sourceOf(aws.env);
    for (const region of ['eu-west-1', 'cn-north-1', 'eusc-de-east-1'])
      await fetch(requestOf({ region, chain: [ROLE] }));
    expect(aws.requests.map(({ service, region }) => `${service} ${region}`)).toEqual([
      'sts eu-west-1',
      'ecr eu-west-1',
      'sts cn-north-1',
      'ecr cn-north-1',
      'sts eusc-de-east-1',
      'ecr eusc-de-east-1',
    ]);
  });

  test('is asked for at the endpoints of the environment, each service at its own', async () => {
    await using ecr = await AwsServer.start();
    await using sts = await AwsServer.start();
    await using publicEcr = await AwsServer.start();
    const { fetch } = sourceOf({
      AWS_ENDPOINT_URL: 'http://127.0.0.1:9',
      AWS_ENDPOINT_URL_ECR: ecr.url,
      AWS_ENDPOINT_URL_STS: sts.url,
      AWS_ENDPOINT_URL_ECR_PUBLIC: publicEcr.url,
    });
    await fetch(requestOf({ chain: [ROLE] }));
    await fetch(requestOf({ service: 'ecr-public' }));
    expect([ecr, sts, publicEcr].map(({ requests }) => requests.map(({ operation }) => operation))).toEqual([
      ['GetAuthorizationToken'],
      ['AssumeRole'],
      ['GetAuthorizationToken'],
    ]);
  });

  test.each<[string, unknown]>([
    ['{}', {}],
    ['an empty list', { authorizationData: [] }],
    ['no token', { authorizationData: [{ expiresAt: 4e9 }] }],
    ['a token without a colon', { authorizationData: [{ authorizationToken: btoa('AWS'), expiresAt: 4e9 }] }],
    ['a token that is not base64', { authorizationData: [{ authorizationToken: '!!:!!', expiresAt: 4e9 }] }],
    ['no expiry', { authorizationData: [{ authorizationToken: btoa('AWS:p') }] }],
    ['an expiry that is a text', { authorizationData: [{ authorizationToken: btoa('AWS:p'), expiresAt: 'soon' }] }],
    ['an empty body', ''],
    ['null', 'null'],
    ['[]', '[]'],
  ])('is not taken from an answer of 200 with %s', async (_name, raw) => {
    await using aws = await AwsServer.start();
    aws.answers.GetAuthorizationToken = tokenAnswer({ raw });
    const error = await failureOf(sourceOf(aws.env).fetch(requestOf()));
    expect(error).toBeInstanceOf(TransientError);
    expect(error.message).toMatch(/127\.0\.0\.1.*(is it AWS that answers|is there a proxy).*HTTPS_PROXY/);
  });

  test('comes in spite of a clock that is an hour wrong, with one refusal for each client and not each call', async () => {
    await using aws = await AwsServer.start();
    const date = new Date(Date.now() + HOUR);
    let refusals = 0;
    aws.answers.GetAuthorizationToken = (request, response) => {
      const signedAt = refusals;
      if (signedAt > 0) return tokenAnswer({ date: new Date(Date.now() + HOUR) })(request, response);
      refusals += 1;
      jsonError('InvalidSignatureException', 'Signature expired', { headers: { date: date.toUTCString() } })(
        request,
        response,
      );
    };
    const { fetch } = sourceOf(aws.env);
    await fetch(requestOf());
    await fetch(requestOf());
    expect(aws.requests).toHaveLength(3);
  });
});

describe('a session', () => {
  test('is new in each refresh, with the role, external id, name and duration asked for', async () => {
    await using aws = await AwsServer.start();
    const { fetch, secrets } = sourceOf(aws.env);
    const chain = [
      ROLE,
      { roleArn: 'arn:aws:iam::222222222222:role/b', externalId: 'corp', sessionName: 'prod', durationSeconds: 900 },
    ];
    const tokens = [await fetch(requestOf({ chain })), await fetch(requestOf({ chain }))];
    const roles = aws
      .of('AssumeRole')
      .map(({ parameters }) =>
        ['RoleArn', 'RoleSessionName', 'ExternalId', 'DurationSeconds'].map((name) => parameters.get(name)),
      );
    const once = [
      ['arn:aws:iam::012345678901:role/pull', 'ecr-pull-secrets', null, null],
      ['arn:aws:iam::222222222222:role/b', 'prod', 'corp', '900'],
    ];
    expect(roles).toEqual([...once, ...once]);
    // Each call is signed by the session before it, never by one of the last refresh.
    const asked = aws.requests.map(({ accessKeyId }) => accessKeyId);
    expect(new Set(asked.filter((id) => id.startsWith('ASIA'))).size).toBe(4);
    expect(asked.filter((id) => id === KEYS.accessKeyId)).toHaveLength(2);
    expect(tokens.every(({ sessionEndsAt }) => sessionEndsAt !== null)).toBe(true);
    expect(secrets.filter((secret) => /^session-(secret|token)/.test(secret))).toHaveLength(8);
  });

  test('ends with the earliest of its chain', async () => {
    await using aws = await AwsServer.start();
    let steps = 0;
    aws.answers.AssumeRole = (...call) => sessionAnswer({ lifeMs: steps++ === 0 ? 0.25 * HOUR : HOUR })(...call);
    const { sessionEndsAt } = await sourceOf(aws.env).fetch(requestOf({ chain: [ROLE, ROLE] }));
    expect((sessionEndsAt?.getTime() ?? 0) - Date.now()).toBeLessThan(0.3 * HOUR);
  });

  test('whose keys have a third part sends it, and has no known end', async () => {
    await using aws = await AwsServer.start();
    const { fetch } = sourceOf(aws.env);
    const token = await fetch(requestOf({ source: { ...KEYS, sessionToken: 'mfa-session' } }));
    await fetch(requestOf());
    expect(aws.requests.map(({ sessionToken }) => sessionToken)).toEqual(['mfa-session', undefined]);
    expect(token.sessionEndsAt).toBeNull();
  });

  test('that has expired is opened anew once, at once', async () => {
    await using aws = await AwsServer.start();
    let calls = 0;
    aws.answers.GetAuthorizationToken = (...call) =>
      (calls++ === 0
        ? jsonError('ExpiredTokenException', 'The security token included in the request is expired')
        : tokenAnswer())(...call);
    await sourceOf(aws.env).fetch(requestOf({ chain: [ROLE] }));
    expect(aws.requests.map(({ operation }) => operation)).toEqual([
      'AssumeRole',
      'GetAuthorizationToken',
      'AssumeRole',
      'GetAuthorizationToken',
    ]);
  });

  test('of keys that have expired is told with the Secret, after one call', async () => {
    await using aws = await AwsServer.start();
    aws.answers.GetAuthorizationToken = jsonError(
      'ExpiredTokenException',
      'The security token included in the request is expired',
    );
    const error = await failureOf(sourceOf(aws.env).fetch(requestOf({ source: { ...KEYS, sessionToken: 'mfa' } })));
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error.code).toBe('ExpiredCredentials');
    expect(error.message).toBe('the keys have expired: put new ones into the Secret aws/aws-credentials');
    expect(aws.requests).toHaveLength(1);
  });

  test('without content is an error', async () => {
    await using aws = await AwsServer.start();
    aws.answers.AssumeRole = sessionAnswer({ raw: '<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>' });
    const error = await failureOf(sourceOf(aws.env).fetch(requestOf({ chain: [ROLE] })));
    expect(error).toMatchObject({ code: 'EmptyAnswer' });
    expect(error.message).toContain(ROLE.roleArn);
    expect(error.message).toMatch(/127\.0\.0\.1.*is it AWS that answers.*HTTPS_PROXY/);
  });
});

describe("the operator's own identity", () => {
  const OPERATOR: CredentialSource = { kind: 'operator' };

  test('comes from keys in the environment that is handed in', async () => {
    await using aws = await AwsServer.start();
    const env = {
      ...aws.env,
      AWS_ACCESS_KEY_ID: 'AKIAENV',
      AWS_SECRET_ACCESS_KEY: 'env-secret',
      AWS_SESSION_TOKEN: 'env-token',
    };
    await sourceOf(env).fetch(requestOf({ source: OPERATOR }));
    expect(aws.requests).toMatchObject([{ accessKeyId: 'AKIAENV', sessionToken: 'env-token' }]);
  });

  test('comes from a web identity token whose file is read anew each time, also through a new link', async () => {
    await using aws = await AwsServer.start();
    const folder = mkdtempSync(join(tmpdir(), 'token-'));
    const file = join(folder, 'token');
    writeFileSync(join(folder, 'one'), 'jwt-one');
    writeFileSync(join(folder, 'two'), 'jwt-two');
    symlinkSync(join(folder, 'one'), file);
    const env = { ...aws.env, AWS_WEB_IDENTITY_TOKEN_FILE: file, AWS_ROLE_ARN: ROLE.roleArn };
    const { fetch, counted } = sourceOf(env);
    const token = await fetch(requestOf({ source: OPERATOR }));
    symlinkSync(join(folder, 'two'), `${file}.new`);
    renameSync(`${file}.new`, file);
    await fetch(requestOf({ source: OPERATOR }));
    const web = aws.of('AssumeRoleWithWebIdentity');
    expect(web.map(({ parameters }) => parameters.get('WebIdentityToken'))).toEqual(['jwt-one', 'jwt-two']);
    expect(web[0]?.parameters.get('RoleSessionName')).toBe('ecr-pull-secrets');
    expect(token.sessionEndsAt).not.toBeNull();
    expect(counted).toContain('sts AssumeRoleWithWebIdentity 200');
  });

  test('comes from a profile whose file is read anew each time', async () => {
    await using aws = await AwsServer.start();
    const file = join(mkdtempSync(join(tmpdir(), 'profile-')), 'credentials');
    const write = (id: string): void =>
      writeFileSync(file, `[default]\naws_access_key_id=${id}\naws_secret_access_key=s\n`);
    const { fetch } = sourceOf({ ...aws.env, AWS_SHARED_CREDENTIALS_FILE: file });
    write('AKIAFIRST');
    await fetch(requestOf({ source: OPERATOR }));
    write('AKIASECOND');
    await fetch(requestOf({ source: OPERATOR }));
    expect(aws.requests.map(({ accessKeyId }) => accessKeyId)).toEqual(['AKIAFIRST', 'AKIASECOND']);
  });

  test('that is nowhere is told with what to do', async () => {
    await using aws = await AwsServer.start();
    const error = await failureOf(sourceOf(aws.env).fetch(requestOf({ source: OPERATOR })));
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error.code).toBe('NoCredentials');
    expect(error.message).toContain('accessKeySecretRef');
  });

  test('whose token is refused is told with what to look at', async () => {
    await using aws = await AwsServer.start();
    aws.answers.AssumeRoleWithWebIdentity = stsError('InvalidIdentityToken', 'No OpenIDConnect provider found', 400);
    const file = join(mkdtempSync(join(tmpdir(), 'token-')), 'token');
    writeFileSync(file, 'jwt');
    const env = { ...aws.env, AWS_WEB_IDENTITY_TOKEN_FILE: file, AWS_ROLE_ARN: ROLE.roleArn };
    expect(await failureOf(sourceOf(env).fetch(requestOf({ source: OPERATOR })))).toMatchObject({
      code: 'InvalidIdentityToken',
    });
  });

  test('whose token file is away for a moment is transient', async () => {
    await using aws = await AwsServer.start();
    const env = { ...aws.env, AWS_WEB_IDENTITY_TOKEN_FILE: '/nonexistent/token', AWS_ROLE_ARN: ROLE.roleArn };
    const error = await failureOf(sourceOf(env).fetch(requestOf({ source: OPERATOR })));
    expect(error).toBeInstanceOf(TransientError);
  });
});

const ARN_TAIL =
  'User: arn:aws:iam::111111111111:user/pull is not authorized to perform: ecr:GetAuthorizationToken on resource: * with an explicit deny in a service control policy';

describe('a failure', () => {
  const table: [
    string,
    Answer,
    typeof TransientError | typeof ConfigurationError | typeof ThrottledError,
    string,
    RegExp,
  ][] = [
    [
      'no right',
      jsonError('AccessDeniedException', ARN_TAIL),
      ConfigurationError,
      'AccessDenied',
      /user\/pull .*explicit deny in a service control policy.*Allow ecr:GetAuthorizationToken/,
    ],
    [
      'a deleted key',
      jsonError('UnrecognizedClientException', 'The security token included in the request is invalid.'),
      ConfigurationError,
      'InvalidCredentials',
      /keys of the Secret aws\/aws-credentials/,
    ],
    [
      'a wrong secret',
      jsonError('InvalidSignatureException', 'The request signature we calculated does not match'),
      ConfigurationError,
      'InvalidCredentials',
      /a key is wrong/,
    ],
    [
      'a region that is off',
      jsonError('OptInRequired', 'The AWS Access Key Id needs a subscription for the service', { status: 403 }),
      ConfigurationError,
      'RegionDisabled',
      /eu-west-1/,
    ],
    [
      'the throttle in the guide',
      jsonError('ThrottleException', 'Rate exceeded'),
      ThrottledError,
      'Throttled',
      /throttles/,
    ],
    [
      'an unknown refusal',
      jsonError('SomethingNewException', 'secret words'),
      ConfigurationError,
      'AwsRefused',
      /SomethingNewException \(HTTP 400\)$/,
    ],
    ['a login page with 200', htmlAnswer(200), TransientError, 'NotAnAwsAnswer', /HTTP 200 .*HTTPS_PROXY/],
    ["a proxy's page with 403", htmlAnswer(403), TransientError, 'NotAnAwsAnswer', /127\.0\.0\.1 answered HTTP 403/],
    ["a proxy's page with 407", htmlAnswer(407), TransientError, 'ProxyRefused', /HTTP 407/],
    [
      'XML with 403',
      (_request, response) => response.writeHead(403).end('<Response><Errors/></Response>'),
      TransientError,
      'NotAnAwsAnswer',
      /HTTP 403/,
    ],
    [
      'an answer that ends early',
      (_request, response) => response.writeHead(200, { 'content-length': '100' }).write('{', () => response.destroy()),
      TransientError,
      'NotAnAwsAnswer',
      /127\.0\.0\.1/,
    ],
    ['a closed connection', (_request, response) => response.destroy(), TransientError, 'Unreachable', /127\.0\.0\.1/],
  ];

  test.each(table)('by %s says what it is', async (_name, answer, type, code, message) => {
    await using aws = await AwsServer.start();
    aws.answers.GetAuthorizationToken = answer;
    const error = await failureOf(sourceOf({ ...aws.env, AWS_MAX_ATTEMPTS: '1' }).fetch(requestOf()));
    expect(error).toBeInstanceOf(type);
    expect(error.message).toMatch(message);
    expect(error.code).toBe(code);
  });

  test.each([429, 500, 503])('by HTTP %i is retried by the SDK, then told', async (status) => {
    await using aws = await AwsServer.start();
    aws.answers.GetAuthorizationToken = jsonError(
      status === 429 ? 'TooManyRequestsException' : 'ServerException',
      'x',
      { status, headers: { 'retry-after': '0' } },
    );
    const error = await failureOf(sourceOf({ ...aws.env, AWS_MAX_ATTEMPTS: '2' }).fetch(requestOf()));
    expect(error.code).toBe(status === 429 ? 'Throttled' : 'ServerError');
    expect(aws.requests).toHaveLength(2);
  });

  test('by a trust policy names the role', async () => {
    await using aws = await AwsServer.start();
    aws.answers.AssumeRole = stsError(
      'AccessDenied',
      'User: arn:aws:iam::1:user/u is not authorized to perform: sts:AssumeRole',
    );
    const error = await failureOf(sourceOf(aws.env).fetch(requestOf({ chain: [ROLE] })));
    expect(error.code).toBe('AccessDenied');
    expect(error.message).toMatch(/arn:aws:iam::012345678901:role\/pull.*user\/u.*trust policy/);
  });

  test('by a role that gives no such duration keeps the text that says so', async () => {
    await using aws = await AwsServer.start();
    aws.answers.AssumeRole = stsError(
      'ValidationError',
      'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.',
      400,
    );
    const error = await failureOf(sourceOf(aws.env).fetch(requestOf({ chain: [ROLE] })));
    expect(error).toMatchObject({ code: 'InvalidRequest' });
    expect(error.message).toContain('MaxSessionDuration');
  });

  test.each([200, 403, 503])('by a page of HTTP %i where STS should be is no refusal', async (status) => {
    await using aws = await AwsServer.start();
    aws.answers.AssumeRole = htmlAnswer(status);
    const error = await failureOf(sourceOf({ ...aws.env, AWS_MAX_ATTEMPTS: '1' }).fetch(requestOf({ chain: [ROLE] })));
    expect(error).toBeInstanceOf(TransientError);
  });

  test('by a name that does not exist says that the region may be mistyped', async () => {
    const { fetch } = sourceOf({ AWS_ENDPOINT_URL: 'https://api.ecr.eu-wset-1.invalid', AWS_MAX_ATTEMPTS: '1' });
    const error = await failureOf(fetch(requestOf({ region: 'eu-wset-1' })));
    expect(error).toBeInstanceOf(TransientError);
    expect(error.message).toContain('api.ecr.eu-wset-1.invalid');
    // Some resolvers answer EAI_AGAIN where there is no network.
    expect(error.message).toMatch(/region eu-wset-1 may be mistyped|DNS does not answer/);
  });

  test('by a proxy that wants a password names the proxy variables, not its password', async () => {
    const proxy = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'));
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const { port } = proxy.address() as AddressInfo;
    const env = { HTTPS_PROXY: `http://user:canary-password@127.0.0.1:${port}`, AWS_MAX_ATTEMPTS: '1' };
    const error = await failureOf(sourceOf(env).fetch(requestOf()));
    proxy.close();
    expect(error).toMatchObject({ code: 'ProxyRefused' });
    expect(error.message).toMatch(/api\.ecr\.eu-west-1\.amazonaws\.com.*HTTPS_PROXY/);
    expect(error.message).not.toContain('canary-password');
  });

  test('by a certificate that is not trusted names the host and the setting', async () => {
    const server = createHttpsServer(selfSignedCertificate(['127.0.0.1']), () => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const env = { AWS_ENDPOINT_URL: `https://127.0.0.1:${port}`, AWS_MAX_ATTEMPTS: '1' };
    const errors = [
      await failureOf(sourceOf(env).fetch(requestOf())),
      await failureOf(sourceOf(env).fetch(requestOf({ chain: [ROLE] }))),
    ];
    server.close();
    for (const error of errors) {
      expect(error).toMatchObject({ code: 'CertificateUntrusted' });
      expect(error.message).toMatch(/certificate of 127\.0\.0\.1 .*NODE_EXTRA_CA_CERTS/);
    }
  });

  test.each([
    ['a refused connection', 'http://127.0.0.1:9'],
    ['a dead proxy', 'https://api.example'],
  ])('by %s is transient', async (_name, url) => {
    const env = { AWS_ENDPOINT_URL: url, HTTPS_PROXY: 'http://127.0.0.1:9', AWS_MAX_ATTEMPTS: '1' };
    expect(await failureOf(sourceOf(env).fetch(requestOf()))).toMatchObject({
      name: 'TransientError',
      code: 'Unreachable',
    });
  });

  test("by FIPS together with an endpoint of one's own says so", async () => {
    const env = { AWS_ENDPOINT_URL: 'http://127.0.0.1:9', AWS_USE_FIPS_ENDPOINT: 'true' };
    const error = await failureOf(sourceOf(env).fetch(requestOf()));
    expect(error).toMatchObject({ name: 'ConfigurationError', code: 'InvalidEndpoint' });
  });

  test('by the caller who gives up is no failure', async () => {
    await using aws = await AwsServer.start();
    const giveUp = new AbortController();
    aws.answers.GetAuthorizationToken = () => giveUp.abort();
    expect(await failureOf(sourceOf(aws.env).fetch(requestOf(), giveUp.signal))).toBeInstanceOf(StoppedError);
  });

  test('by an answer that never comes ends after 30 s', async () => {
    await using aws = await AwsServer.start();
    const clock = new FakeClock();
    const { fetch } = sourceOf(aws.env, clock);
    aws.answers.GetAuthorizationToken = () => void clock.advance(30_000);
    const error = await failureOf(fetch(requestOf()));
    expect(error).toBeInstanceOf(TransientError);
    expect(error.code).toBe('Unreachable');
    expect(error.message).toBe(
      'AWS in eu-west-1 has not answered within 30 s (ecr:GetAuthorizationToken, or STS before it): look at firewalls, network policies and HTTPS_PROXY',
    );
    expect(aws.requests).toHaveLength(1);
  });

  test('of a process that was stopped in the middle of its call is made good at once', async () => {
    await using aws = await AwsServer.start();
    const clock = new FakeClock();
    const { fetch } = sourceOf(aws.env, clock);
    let calls = 0;
    aws.answers.GetAuthorizationToken = (...call) => {
      if (calls++ > 0) return tokenAnswer()(...call);
      clock.jump({ wall: 90_000, monotonic: 90_000 });
      void clock.advance(0);
    };
    await fetch(requestOf());
    expect(aws.requests).toHaveLength(2);
  });

  test('by a signature that was too old when it arrived is made good at once', async () => {
    await using aws = await AwsServer.start();
    let calls = 0;
    aws.answers.GetAuthorizationToken = (...call) =>
      (calls++ === 0 ? jsonError('RequestExpired', 'Request has expired') : tokenAnswer())(...call);
    await sourceOf({ ...aws.env, AWS_MAX_ATTEMPTS: '1' }).fetch(requestOf());
    expect(aws.requests).toHaveLength(2);
  });
});

test('https endpoints are reached through HTTPS_PROXY, those of NO_PROXY past it', async () => {
  const asked: string[] = [];
  const proxy = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (head) => {
      asked.push(String(head).split('\r\n')[0] ?? '');
      socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const { port } = proxy.address() as AddressInfo;
  const env = { HTTPS_PROXY: `http://127.0.0.1:${port}`, AWS_USE_FIPS_ENDPOINT: 'true', AWS_MAX_ATTEMPTS: '1' };
  await failureOf(sourceOf(env).fetch(requestOf({ region: 'us-gov-west-1' })));
  await failureOf(sourceOf({ ...env, AWS_USE_DUALSTACK_ENDPOINT: 'true' }).fetch(requestOf({ service: 'ecr-public' })));
  await failureOf(
    sourceOf({
      ...env,
      AWS_ENDPOINT_URL: 'https://127.0.0.1:9',
      AWS_USE_FIPS_ENDPOINT: '',
      NO_PROXY: '127.0.0.1',
    }).fetch(requestOf()),
  );
  proxy.close();
  expect(asked).toEqual([
    'CONNECT api.ecr-fips.us-gov-west-1.amazonaws.com:443 HTTP/1.1',
    'CONNECT api.ecr-public.us-east-1.amazonaws.com:443 HTTP/1.1',
  ]);
});

test('a key tells all requests apart that differ, and holds no secret', () => {
  const env = { AWS_ENDPOINT_URL: 'http://127.0.0.1:1' };
  const chained = (step: Partial<AssumeRoleStep>): TokenRequest => requestOf({ chain: [{ ...ROLE, ...step }] });
  const keys = [
    tokenKey(requestOf(), env),
    tokenKey(requestOf(), {}),
    tokenKey(requestOf(), { AWS_USE_FIPS_ENDPOINT: 'true' }),
    tokenKey(requestOf({ region: 'eu-west-2' }), env),
    tokenKey(requestOf({ service: 'ecr-public' }), env),
    tokenKey(requestOf({ source: { kind: 'operator' } }), env),
    tokenKey(requestOf({ source: { kind: 'operator' } }), { ...env, AWS_ROLE_ARN: 'arn:aws:iam::1:role/a' }),
    tokenKey(requestOf({ source: { ...KEYS, accessKeyId: 'AKIAOTHER' } }), env),
    tokenKey(requestOf({ source: { ...KEYS, secretAccessKey: 'other' } }), env),
    tokenKey(requestOf({ source: { ...KEYS, sessionToken: 'other' } }), env),
    tokenKey(chained({}), env),
    tokenKey(chained({ externalId: 'a' }), env),
    tokenKey(chained({ sessionName: 'a' }), env),
    tokenKey(chained({ durationSeconds: 900 }), env),
    tokenKey(chained({}), { AWS_ENDPOINT_URL_ECR: 'http://127.0.0.1:1', AWS_ENDPOINT_URL_STS: 'http://127.0.0.1:2' }),
    tokenKey(requestOf({ chain: [ROLE, ROLE] }), env),
  ];
  expect(new Set(keys).size).toBe(keys.length);
  expect(keys.every((key) => /^[0-9a-f]{64}$/.test(key))).toBe(true);
  // The name of the Secret is for messages: the same keys under another name are the same identity.
  expect(tokenKey(requestOf({ source: { ...KEYS, secretName: 'other' } }), env)).toBe(keys[0]);
});

test('no message and no log line ever holds a key, a session or a token', async () => {
  await using aws = await AwsServer.start();
  const TOKEN = 'canaryTokenCanaryTokenCanaryTokenCanaryToken';
  const source: CredentialSource = { ...KEYS, sessionToken: 'canary-session-token-canary-session-token' };
  const canaries = [
    KEYS.accessKeyId,
    KEYS.secretAccessKey,
    source.sessionToken ?? '',
    TOKEN,
    btoa(`AWS:${TOKEN}`),
  ].concat(encodeURIComponent(KEYS.secretAccessKey));
  const leak = canaries.join(' ');
  const answers: Answer[] = [
    ...[
      'AccessDeniedException',
      'InvalidParameterException',
      'ExpiredTokenException',
      'ThrottleException',
      'OtherException',
      KEYS.accessKeyId,
    ].map((name) => jsonError(name, leak)),
    htmlAnswer(200, `<html>${leak}</html>`),
    htmlAnswer(403, leak),
    tokenAnswer({
      raw: { authorizationData: [{ authorizationToken: btoa(`AWS:${TOKEN}`), expiresAt: leak }] },
    }),
    tokenAnswer({ raw: { authorizationData: [{ authorizationToken: `AWS:${TOKEN}`, expiresAt: 4e9 }] } }),
  ];
  for (const answer of answers) {
    for (const chain of [[], [ROLE]]) {
      aws.answers.GetAuthorizationToken = answer;
      aws.answers.AssumeRole = chain.length === 1 ? stsError('AccessDenied', leak) : sessionAnswer();
      const { fetch, lines } = sourceOf({ ...aws.env, AWS_MAX_ATTEMPTS: '1' });
      const { message } = await failureOf(fetch(requestOf({ source, chain })));
      for (const canary of canaries) expect(message + lines.join('\n')).not.toContain(canary);
    }
  }
});
