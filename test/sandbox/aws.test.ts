import { ECRClient, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { ECRPUBLICClient, GetAuthorizationTokenCommand as GetPublicTokenCommand } from '@aws-sdk/client-ecr-public';
import {
  AssumeRoleCommand,
  AssumeRoleWithWebIdentityCommand,
  GetCallerIdentityCommand,
  STSClient,
} from '@aws-sdk/client-sts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SandboxAws } from './aws.ts';
import type { AwsMode } from './awsModes.ts';

const HOUR = 3_600_000;
const user = { accessKeyId: 'AKIAUSER', secretAccessKey: 'secret' };

let aws: SandboxAws;
beforeEach(async () => {
  aws = await SandboxAws.start();
});
afterEach(() => aws.close());

function ecr(o: { region?: string; credentials?: typeof user & { sessionToken?: string }; maxAttempts?: number } = {}) {
  const { region = 'us-east-1', credentials = user, maxAttempts = 1 } = o;
  return new ECRClient({ region, credentials, maxAttempts, endpoint: aws.url('ecr') });
}

function sts(region = 'us-east-1') {
  return new STSClient({ region, credentials: user, maxAttempts: 1, endpoint: aws.url('sts') });
}

async function getToken(client = ecr(), abortSignal = AbortSignal.timeout(5000)) {
  const { authorizationData } = await client.send(new GetAuthorizationTokenCommand({}), { abortSignal });
  return authorizationData?.[0];
}

describe('tokens', () => {
  it('each is another, some 2,000 characters long, and known again', async () => {
    const [one, other] = [await getToken(), await getToken()];
    expect(one?.authorizationToken).not.toBe(other?.authorizationToken);
    const [name, password] = Buffer.from(one?.authorizationToken ?? '', 'base64')
      .toString()
      .split(':');
    expect(name).toBe('AWS');
    expect(password).toHaveLength(2048);
    expect(aws.tokens.stateOf(one?.authorizationToken ?? '')).toBe('live');
    expect(aws.tokens.stateOf('QVdTOng=')).toBe('unknown');
    expect(aws.tokens.secrets).toContain(password);
    expect(one?.proxyEndpoint).toBe('https://123456789012.dkr.ecr.us-east-1.amazonaws.com');
  });

  it('ECR Public answers with one object that has no endpoint', async () => {
    const client = new ECRPUBLICClient({ region: 'us-east-1', credentials: user, endpoint: aws.url('ecr-public') });
    const { authorizationData } = await client.send(new GetPublicTokenCommand({}));
    expect(aws.tokens.stateOf(authorizationData?.authorizationToken ?? '')).toBe('live');
    expect(authorizationData?.expiresAt).toBeInstanceOf(Date);
    expect(aws.calls.map(({ service }) => service)).toEqual(['ecr-public']);
  });

  it('their life can be set, and ended', async () => {
    aws.settings.tokenLifeMs = 2 * HOUR;
    const token = await getToken();
    const life = (token?.expiresAt?.getTime() ?? 0) - Date.now();
    expect(life).toBeGreaterThan(1.9 * HOUR);
    expect(life).toBeLessThan(2.1 * HOUR);
    aws.tokens.expireAll();
    expect(aws.tokens.stateOf(token?.authorizationToken ?? '')).toBe('expired');
  });

  it('the clock can be another: expiry and Date are told by it, and the SDK learns it', async () => {
    aws.settings.clockOffsetMs = -3 * HOUR;
    const token = await getToken(ecr({ maxAttempts: 2 }));
    expect(aws.calls.map(({ status }) => status)).toEqual([403, 200]);
    expect((token?.expiresAt?.getTime() ?? 0) - Date.now()).toBeLessThan(9.1 * HOUR);
  });

  it('the endpoint can name the account of somebody else', async () => {
    aws.settings.proxyAccount = '111111111111';
    expect((await getToken())?.proxyEndpoint).toBe('https://111111111111.dkr.ecr.us-east-1.amazonaws.com');
  });
});

describe('who asked', () => {
  it('is written down with the region of the signature', async () => {
    await getToken(ecr({ region: 'ap-southeast-2', credentials: { ...user, sessionToken: 'x' } }));
    expect(aws.calls).toMatchObject([
      {
        service: 'ecr',
        operation: 'GetAuthorizationToken',
        region: 'ap-southeast-2',
        accessKeyId: 'AKIAUSER',
        hasSessionToken: true,
        status: 200,
      },
    ]);
    expect(aws.callsOf('GetAuthorizationToken', { region: 'us-east-1' })).toEqual([]);
  });

  it('keys that are not registered are refused once some are', async () => {
    aws.sessions.addUser('AKIAOTHER', '222222222222');
    await expect(getToken()).rejects.toMatchObject({ name: 'UnrecognizedClientException' });
    const token = await getToken(ecr({ credentials: { ...user, accessKeyId: 'AKIAOTHER' } }));
    expect(token?.proxyEndpoint).toContain('222222222222');
  });
});

describe('STS', () => {
  const role = 'arn:aws:iam::222222222222:role/pull';

  it('a role is assumed with what was asked for, and its session has another account and an end', async () => {
    const { Credentials, AssumedRoleUser } = await sts('eu-west-1').send(
      new AssumeRoleCommand({ RoleArn: role, RoleSessionName: 'me', ExternalId: 'corp', DurationSeconds: 900 }),
    );
    expect(AssumedRoleUser?.Arn).toBe('arn:aws:sts::222222222222:assumed-role/pull/me');
    const left = (Credentials?.Expiration?.getTime() ?? 0) - Date.now();
    expect(Math.round(left / 60_000)).toBe(15);
    expect(aws.calls[0]).toMatchObject({ service: 'sts', region: 'eu-west-1', parameters: { ExternalId: 'corp' } });
    const { AccessKeyId = '', SecretAccessKey = '', SessionToken = '' } = Credentials ?? {};
    const session = { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken };
    expect((await getToken(ecr({ credentials: session })))?.proxyEndpoint).toContain('222222222222');
    await expect(getToken(ecr({ credentials: { ...session, sessionToken: 'x' } }))).rejects.toMatchObject({
      name: 'UnrecognizedClientException',
    });
  });

  it('a session that has ended is told so, and its tokens end with it where that is set', async () => {
    Object.assign(aws.settings, { sessionLifeMs: HOUR, tokensDieWithSession: true });
    const { Credentials } = await sts().send(new AssumeRoleCommand({ RoleArn: role, RoleSessionName: 'me' }));
    const { AccessKeyId = '', SecretAccessKey = '', SessionToken = '' } = Credentials ?? {};
    const client = ecr({
      credentials: { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken },
    });
    const token = await getToken(client);
    aws.settings.clockOffsetMs = 2 * HOUR;
    aws.settings.signatureAgeMs = Infinity;
    await expect(getToken(client)).rejects.toMatchObject({ name: 'ExpiredTokenException' });
    expect(aws.tokens.stateOf(token?.authorizationToken ?? '')).toBe('expired');
  });

  it('a web identity needs no signature, and its token is not written down', async () => {
    const client = new STSClient({ region: 'us-east-1', endpoint: aws.url('sts'), credentials: user });
    const { Credentials } = await client.send(
      new AssumeRoleWithWebIdentityCommand({ RoleArn: role, RoleSessionName: 'pod', WebIdentityToken: 'jwt' }),
    );
    expect(Credentials?.AccessKeyId).toMatch(/^ASIA/);
    expect(aws.calls).toMatchObject([{ accessKeyId: '', region: '' }]);
    expect(JSON.stringify(aws.calls)).not.toContain('jwt');
  });

  it('says who asks', async () => {
    const identity = await sts().send(new GetCallerIdentityCommand({}));
    expect(identity).toMatchObject({ Arn: 'arn:aws:iam::123456789012:user/akiauser', Account: '123456789012' });
  });
});

describe('modes', () => {
  it.each<[AwsMode, object]>([
    [
      'denied',
      { name: 'AccessDeniedException', message: expect.stringContaining('no identity-based policy') as string },
    ],
    ['expired', { name: 'ExpiredTokenException' }],
    ['throttled', { name: 'ThrottlingException' }],
    [
      { error: 'ServerException', status: 500 },
      { name: 'ServerException', $metadata: { httpStatusCode: 500 } },
    ],
    [{ html: 407 }, { name: 'SyntaxError', $metadata: { httpStatusCode: 407 } }],
    ['hang', { name: 'AbortError' }],
    ['stall', { name: 'AbortError' }],
    ['down', { code: 'ECONNREFUSED' }],
  ])('%j', async (mode, error) => {
    await aws.setMode(mode);
    const signal = AbortSignal.timeout(mode === 'hang' || mode === 'stall' ? 300 : 5000);
    await expect(getToken(ecr(), signal)).rejects.toMatchObject(error);
    await aws.reset();
    expect(await getToken()).toBeDefined();
  });

  it('empty: 200 and no token', async () => {
    await aws.setMode('empty');
    expect(await getToken()).toBeUndefined();
  });

  it.each<[AwsMode, object]>([
    ['denied', { name: 'AccessDenied' }],
    ['expired', { name: 'ExpiredToken' }],
    ['throttled', { name: 'Throttling' }],
  ])('STS has its own names: %j', async (mode, error) => {
    await aws.setMode(mode, { service: 'sts' });
    await expect(sts().send(new GetCallerIdentityCommand({}))).rejects.toMatchObject(error);
    expect(await getToken()).toBeDefined();
  });

  it('a key or a region can fail alone, and the narrowest rule wins', async () => {
    await aws.setMode('denied');
    await aws.setMode('ok', { region: 'eu-west-1' });
    await aws.setMode('expired', { region: 'eu-west-1', accessKeyId: 'AKIABAD' });
    await expect(getToken()).rejects.toMatchObject({ name: 'AccessDeniedException' });
    expect(await getToken(ecr({ region: 'eu-west-1' }))).toBeDefined();
    const bad = ecr({ region: 'eu-west-1', credentials: { ...user, accessKeyId: 'AKIABAD' } });
    await expect(getToken(bad)).rejects.toMatchObject({ name: 'ExpiredTokenException' });
  });

  it('a service that is down comes back on its port, with the others up meanwhile', async () => {
    const url = aws.url('ecr');
    await aws.setMode('down', { service: 'ecr' });
    await expect(getToken()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await sts().send(new GetCallerIdentityCommand({}));
    await aws.setMode('ok', { service: 'ecr' });
    expect(aws.url('ecr')).toBe(url);
    expect(await getToken()).toBeDefined();
  });

  it('down for one key is a connection that is cut', async () => {
    await aws.setMode('down', { accessKeyId: user.accessKeyId });
    await expect(getToken()).rejects.toMatchObject({ code: 'ECONNRESET' });
  });
});
