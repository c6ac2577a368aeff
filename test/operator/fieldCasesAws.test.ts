import { describe, expect, it } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { host, staysSo, startWorld, type World } from './world.ts';

// Reports of people who do this job with other tools: identities, regions and ways to AWS.

const role = 'arn:aws:iam::222222222222:role/pull';

function putKeys(w: World, name: string, keys: Record<string, string>): void {
  const encoded = Object.entries(keys).map(([key, value]) => [key, Buffer.from(value).toString('base64')]);
  const metadata = { name, namespace: w.sandbox.namespace };
  const data = Object.fromEntries(encoded) as Record<string, string>;
  w.admin.apply({ apiVersion: 'v1', kind: 'Secret', type: 'Opaque', metadata, data });
}

describe.concurrent('in the field, of AWS', () => {
  it('a role whose tokens outlive its sessions costs one call, and none after a restart', async () => {
    const clock = fastClock(8);
    const aws = { sessionLifeMs: 20_000, tokenLifeMs: 20 * 60_000 };
    await using w = await startWorld({ namespaces: ['team-a'], now: () => clock.now(), aws });
    const first = await w.operator({ clock });
    const credentials = { operatorIdentity: {}, assumeRoleChain: [{ roleArn: role }] };
    w.apply({ credentials, refresh: { outliveSession: true } });
    await w.ready();
    const started = clock.now();
    await eventually('a session has ended', () => clock.now() - started > 22_000);
    await w.quiet();
    await first.stop();
    const second = await w.operator({ clock });
    await eventually('it leads', async () => (await second.metric('ecr_pull_secrets_leader')) === 1);
    w.createNamespace('team-late');
    await w.served('team-late');
    expect(w.sandbox.aws.calls.map(({ operation }) => operation)).toEqual(['AssumeRole', 'GetAuthorizationToken']);
  });

  it('keys of a session have a third part: it is sent, and is no more once it is gone from the Secret', async () => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    const keys = { AWS_ACCESS_KEY_ID: 'AKIAUSER', AWS_SECRET_ACCESS_KEY: 'user-secret-key' };
    putKeys(w, 'aws-credentials', { ...keys, AWS_SESSION_TOKEN: 'session-token-of-the-user' });
    await w.operator();
    w.apply({ credentials: { accessKeySecretRef: { name: 'aws-credentials' } } });
    await w.ready();
    putKeys(w, 'aws-credentials', keys);
    await eventually('the keys alone are tried', () => w.tokenCalls() > 1);
    expect(w.sandbox.aws.calls.map(({ hasSessionToken }) => hasSessionToken)).toEqual([true, false]);
  });

  it('the region is that of the host, whatever the environment says, and the host stays as it is written', async () => {
    const elsewhere = '012345678901.dkr.ecr.ap-southeast-2.amazonaws.com';
    await using w = await startWorld({ namespaces: ['team-a'] });
    await w.operator({ env: { AWS_REGION: 'us-east-1', AWS_DEFAULT_REGION: 'us-east-1' } });
    w.apply({ registries: [{ host: elsewhere }] });
    await w.served('team-a');
    expect(Object.keys(w.auths('team-a'))).toEqual([elsewhere]);
    expect(w.sandbox.aws.calls.map(({ region }) => region)).toEqual(['ap-southeast-2']);
  });

  it('the public registry, asked in us-east-1, refuses keys of China: the other host is fresh, and the refusal is told for the one', async () => {
    const chinese = '123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn';
    await using w = await startWorld({ namespaces: ['team-a'] });
    await w.sandbox.aws.setMode({ error: 'UnrecognizedClientException' }, { service: 'ecr-public' });
    await w.operator({ env: { AWS_REGION: 'cn-north-1' } });
    w.apply({ registries: [{ host: 'public.ecr.aws' }, { host: chinese }] });
    await w.served('team-a');
    expect(Object.keys(w.auths('team-a'))).toEqual([chinese]);
    await eventually('it is told', () => w.condition('Refreshed')?.status === 'False');
    expect(w.condition('Refreshed')?.message).toMatch(/^public\.ecr\.aws: .* in us-east-1: a key is wrong/);
    const said = w.resource().status?.registries.map(({ host: name, message }) => [name, message !== undefined]);
    expect(said).toContainEqual(['public.ecr.aws', true]);
    expect(w.sandbox.aws.calls.map(({ service, region }) => `${service} ${region}`).sort()).toEqual([
      'ecr cn-north-1',
      'ecr-public us-east-1',
    ]);
  });

  it('each of three identities is asked in each half of a life, also by the next leader', async () => {
    const clock = fastClock(8);
    const credentialSecretNames = ['keys-a', 'keys-b'];
    const options = { namespaces: ['team-a'], now: () => clock.now(), aws: { tokenLifeMs: 40_000 } };
    await using w = await startWorld({ ...options, credentialSecretNames });
    for (const name of credentialSecretNames) {
      putKeys(w, name, { AWS_ACCESS_KEY_ID: `AKIA${name}`, AWS_SECRET_ACCESS_KEY: 'secret-of-the-keys' });
    }
    const args = [`--credential-secret-names=${credentialSecretNames.join(',')}`];
    const first = await w.operator({ clock, args });
    w.apply({ registries: [{ host }] });
    for (const [i, name] of credentialSecretNames.entries()) {
      const registries = [{ host: `21098765432${i}.dkr.ecr.us-east-1.amazonaws.com` }];
      w.apply({ registries, credentials: { accessKeySecretRef: { name } } }, name);
    }
    const callsOf = (accessKeyId: string) => w.sandbox.aws.callsOf('GetAuthorizationToken', { accessKeyId }).length;
    const identities = ['AKIASANDBOX', 'AKIAkeys-a', 'AKIAkeys-b'];
    await eventually('all were asked twice', () => identities.every((id) => callsOf(id) >= 2));
    const before = identities.map(callsOf);
    await first.stop();
    await w.operator({ clock, args });
    await eventually('and again', () => identities.every((id, i) => callsOf(id) > (before[i] ?? 0)));
    const states = () => Object.values(w.auths('team-a')).map(({ auth }) => w.sandbox.aws.tokens.stateOf(auth));
    await eventually('each token is live', () => states().every((state) => state === 'live'));
    expect(states()).toHaveLength(3);
  });

  it('a registry that the operator cannot reach: its token is published and said to be unchecked, unless a check is required', async () => {
    const mirror = { host: 'mirror.corp.example', region: 'us-east-1' };
    await using w = await startWorld({ namespaces: ['team-a', 'other'] });
    await w.operator();
    w.apply({ registries: [mirror] });
    const strict = { registries: [mirror], namespaces: { names: ['other'] }, verification: { mode: 'Required' } };
    w.apply({ ...strict, registries: [{ ...mirror, host: 'strict.corp.example' }] }, 'strict');
    await w.ready();
    expect(Object.keys(w.auths('team-a'))).toEqual([mirror.host]);
    const { message } = await eventually('it says so', () =>
      w.resource().status?.registries.find((registry) => registry.message !== undefined),
    );
    expect(message).toMatch(/^not checked: mirror\.corp\.example cannot be reached/);
    await eventually('the other tells why not', () => w.condition('Ready', 'strict')?.reason === 'RegistryUnreachable');
    await staysSo(200, () => w.secret('other') === null);
  });

  it('AWS is not there when the operator starts: it lives, is ready for traffic, and serves within 30 s of its return', async () => {
    const clock = fastClock(10);
    await using w = await startWorld({ namespaces: ['team-a'], now: () => clock.now() });
    // Before AWS has answered, the API server's clock is the one that counts.
    Object.defineProperty(w.api, 'dateOffsetMs', { get: () => clock.now() - Date.now() });
    await w.sandbox.aws.setMode('down');
    const operator = await w.operator({ clock, env: { AWS_MAX_ATTEMPTS: '1' } });
    w.apply();
    await eventually('it has tried again and again', async () => {
      const failures = await operator.metric('ecr_pull_secrets_refresh_failures_total{reason="Unreachable"}');
      return (failures ?? 0) >= 3;
    });
    expect((await operator.readyz()).status).toBe(200);
    await w.sandbox.aws.reset();
    const back = clock.now();
    await w.ready();
    expect(clock.now() - back).toBeLessThan(35_000); // and the clock runs while it is looked at
  });
});
