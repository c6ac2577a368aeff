import { describe, expect, it } from 'vitest';
import { annotations, resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import type { AwsMode, AwsScope } from '../sandbox/awsModes.ts';
import { host, startWorld, type World } from './world.ts';

// Whatever goes wrong between us and AWS: it is told with the registry, what was asked and the remedy, what is published
// stays as it is, and all is well again by itself.

const HOUR = 3_600_000; // ms
const namespaces = ['team-a', 'team-b'];
const role = 'arn:aws:iam::222222222222:role/pull';
const credentials = {
  accessKeySecretRef: { name: 'aws-credentials' },
  assumeRoleChain: [{ roleArn: role }],
};

function createKeys(w: World): void {
  const encoded = (text: string): string => Buffer.from(text).toString('base64');
  w.admin.create({
    ...{ apiVersion: 'v1', kind: 'Secret', type: 'Opaque' },
    metadata: { name: 'aws-credentials', namespace: w.sandbox.namespace },
    data: { AWS_ACCESS_KEY_ID: encoded('AKIAUSER'), AWS_SECRET_ACCESS_KEY: encoded('user-secret-key') },
  });
}

// A removal would be seen at once, and not after the test.
const args = ['--removal-delay=20ms'];

let requests = 0;

function refreshNow(w: World): void {
  const metadata = { annotations: { [annotations.refreshRequestedAt]: String((requests += 1)) } };
  w.admin.merge(`${resourcesPath}/production`, { metadata });
}

const network = 'look at firewalls, network policies and HTTPS_PROXY';

const nights: [what: string, mode: AwsMode, scope: AwsScope, reason: string, message: string | RegExp][] = [
  [
    'does not know the keys',
    { error: 'InvalidClientTokenId', status: 403 },
    { service: 'sts' },
    'InvalidCredentials',
    /keys of the Secret ecr-pull-secrets\/aws-credentials .* a key is wrong, deleted or inactive/,
  ],
  [
    'finds their signature wrong',
    { error: 'SignatureDoesNotMatch', status: 403 },
    { service: 'sts' },
    'InvalidCredentials',
    /keys of the Secret ecr-pull-secrets\/aws-credentials .* or the clock is wrong/,
  ],
  [
    'says that the keys have expired',
    'expired',
    { service: 'sts' },
    'ExpiredCredentials',
    'the keys have expired: put new ones into the Secret ecr-pull-secrets/aws-credentials',
  ],
  [
    'does not let the role be assumed',
    'denied',
    { service: 'sts' },
    'AccessDenied',
    /keys of the Secret ecr-pull-secrets\/aws-credentials \(for the role arn:aws:iam::222222222222:role\/pull\).* trust policy must name the caller/,
  ],
  [
    'gives the role no token',
    'denied',
    { service: 'ecr' },
    'AccessDenied',
    /role arn:aws:iam::222222222222:role\/pull .*Allow ecr:GetAuthorizationToken on the resource "\*"$/,
  ],
  [
    'has the region switched off',
    { error: 'OptInRequired', status: 403 },
    { service: 'ecr' },
    'RegionDisabled',
    /^the region us-east-1 is not enabled for the role .*: enable it in the account$/,
  ],
  [
    'answers nothing where STS should be',
    'empty',
    { service: 'sts' },
    'EmptyAnswer',
    /^127\.0\.0\.1 .* no usable session for the role .*: is it AWS that answers/,
  ],
  [
    'answers nothing where ECR should be',
    'empty',
    { service: 'ecr' },
    'EmptyAnswer',
    /^127\.0\.0\.1 .* without a token: is it AWS that answers/,
  ],
  [
    'is a login page with 200',
    { html: 200 },
    { service: 'ecr' },
    'NotAnAwsAnswer',
    /^127\.0\.0\.1 answered HTTP 200 .*: is there a proxy or a login page in between/,
  ],
  [
    'is a proxy that wants a password',
    { html: 407 },
    { service: 'ecr' },
    'ProxyRefused',
    /HTTP 407 .*user and password in HTTPS_PROXY/,
  ],
  [
    'stalls in the middle of its answer',
    'stall',
    { service: 'ecr' },
    'Unreachable',
    `AWS in us-east-1 has not answered within 30 s (ecr:GetAuthorizationToken, or STS before it for the role ${role}): ${network}`,
  ],
  [
    'throttles',
    { error: 'ThrottlingException', status: 400, retryAfter: 12 },
    { service: 'ecr' },
    'Throttled',
    /^AWS throttles ecr:GetAuthorizationToken in us-east-1: .*look for what else asks so often$/,
  ],
  [
    'has a fault',
    { error: 'ServerException', status: 500 },
    { service: 'ecr' },
    'ServerError',
    "AWS has a fault at 127.0.0.1 (HTTP 500): it is asked again; look at AWS's status page",
  ],
  [
    'is away',
    'down',
    {},
    'Unreachable',
    // A connection that was kept may be met in its end.
    /^127\.0\.0\.1 (cannot be reached|.*closes the connection) \(ECONN(REFUSED|RESET)\): look at firewalls, network policies and HTTPS_PROXY$/,
  ],
];

describe.concurrent('while AWS', () => {
  it.each(nights)('%s, it is told, and nothing that is published changes', async (_, mode, scope, reason, message) => {
    const clock = fastClock(10);
    await using w = await startWorld({ namespaces, now: () => clock.now() });
    createKeys(w);
    const operator = await w.operator({ args, clock, env: { AWS_MAX_ATTEMPTS: '1' } });
    w.apply({ credentials });
    await w.ready();
    const before = w.published(...namespaces);

    await w.sandbox.aws.setMode(mode, scope);
    refreshNow(w);
    const told = await eventually('it is told', () => {
      const condition = w.condition('Refreshed');
      return condition?.status === 'False' ? condition : null;
    });
    expect(told.reason).toBe(reason);
    expect(told.message.slice(0, host.length + 2)).toBe(`${host}: `);
    expect(told.message.slice(host.length + 2)).toEqual(
      typeof message === 'string' ? message : expect.stringMatching(message),
    );
    expect(w.condition('Ready')).toMatchObject({ status: 'True' }); // its token is good for hours
    expect(w.published(...namespaces)).toEqual(before);
    expect(await operator.metric(`ecr_pull_secrets_refresh_failures_total{reason="${reason}"}`)).toBeGreaterThan(0);

    await w.sandbox.aws.reset();
    await eventually('it is well again by itself', () => w.condition('Refreshed')?.status === 'True');
    expect(await w.pull('team-a')).toMatchObject({ ok: true });
  });
});

describe.concurrent('a life that cannot be', () => {
  it('in the past, as emulators give it, is a failed refresh: told, tried again with patience, and nothing changes', async () => {
    const clock = fastClock(10);
    await using w = await startWorld({ namespaces, now: () => clock.now() });
    await w.operator({ args, clock });
    w.apply();
    await w.ready();
    const before = w.published(...namespaces);
    w.sandbox.aws.settings.tokenLifeMs = Date.parse('2015-01-01T00:00:00Z') - clock.now();
    refreshNow(w);
    await eventually('it has tried three times', () => w.tokenCalls() > 3);
    expect(w.condition('Refreshed')).toMatchObject({ status: 'False', reason: 'ExpiredOnArrival' });
    expect(w.condition('Refreshed')?.message).toMatch(
      /^123456789012\.dkr\.ecr\.us-east-1\.amazonaws\.com: .*it expired at 201[45]-.*look at the clock of whoever answers for AWS/,
    );
    expect(w.published(...namespaces)).toEqual(before);
    const at = w.sandbox.aws.callsOf('GetAuthorizationToken').map((call) => call.at * 10); // ms on the operator's clock
    // Requests spread a little on their way.
    for (const [i, time] of at.slice(1).entries()) expect(time - (at[i] ?? 0)).toBeGreaterThan(9_000);
  });

  it('above 12 h counts as 12 h, which the status says', async () => {
    await using w = await startWorld({ namespaces, aws: { tokenLifeMs: 60 * 24 * HOUR } });
    await w.operator();
    w.apply();
    await w.ready();
    const { registries, expiresAt } = w.resource().status ?? {};
    expect(registries?.[0]?.message).toBe('the token claims to live above 12 h: 12 h are counted');
    expect(Date.parse(expiresAt ?? '')).toBeLessThanOrEqual(Date.now() + 12 * HOUR);
    expect(w.tokenCalls()).toBe(1);
  });

  it.each([-5, 5])("is none where our clock is %i h off AWS's: it signs and counts by AWS's", async (hours) => {
    await using w = await startWorld({ namespaces, aws: { clockOffsetMs: hours * HOUR } });
    await w.operator();
    w.apply();
    await w.ready();
    expect(await w.pull('team-a')).toMatchObject({ ok: true });
    expect(w.condition('Refreshed')).toMatchObject({ status: 'True' });
    const end = Date.parse(w.resource().status?.expiresAt ?? '') - hours * HOUR;
    expect(Math.abs(end - (Date.now() + 12 * HOUR))).toBeLessThan(60_000);
    expect(w.tokenCalls()).toBeLessThanOrEqual(2); // a refusal tells the SDK how far it is off
  });
});
