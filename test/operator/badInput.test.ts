import { describe, expect, it } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { host, startWorld, type World } from './world.ts';

// What no schema can refuse, or an API server with an older one does not: it is told in conditions with field and remedy,
// what was published under the last good spec stays, and the next good spec is enough.

const namespaces = ['team-a', 'team-b'];
const specs: [what: string, spec: object, message: RegExp][] = [
  ['31 February', { refresh: { schedule: '0 0 31 2 *' } }, /^spec\.refresh: schedule: never comes: no such day is in/],
  [
    'an hour that no day has',
    { refresh: { schedule: '0 25 * * *' } },
    /^spec\.refresh: schedule: not a cron expression/,
  ],
  [
    'an unknown time zone',
    { refresh: { schedule: '0 0 * * *', timeZone: 'Europe/Atlantis' } },
    /^spec\.refresh: timeZone: "Europe\/Atlantis" is not a time zone like Europe\/Paris$/,
  ],
  [
    'the same without a schedule',
    { refresh: { timeZone: 'Europe/Atlantis' } },
    /^spec\.refresh: timeZone: "Europe\/Atlantis" is not a time zone like Europe\/Paris$/,
  ],
  [
    'an unknown host without region',
    { registries: [{ host: 'registry.corp.example' }] },
    /^spec\.registries\[0\]\.region: .*give the region/,
  ],
  ['a scheme', { registries: [{ host: `https://${host}` }] }, /^spec\.registries\[0\]\.host: .*leave out the scheme/],
  ['a path', { registries: [{ host: `${host}/team` }] }, /^spec\.registries\[0\]\.host: .*leave out the path/],
  [
    'a source of credentials from a later version',
    { credentials: { rolesAnywhere: { profile: 'x' } } },
    /^spec\.credentials.*until it is understood nothing is changed/,
  ],
];

describe.concurrent('a spec with', () => {
  it.each(specs)('%s is refused with field and remedy, and what is published stays', async (_, spec, message) => {
    await using w = await startWorld({ namespaces, validateCustom: () => [] });
    await w.operator({ args: ['--removal-delay=20ms'] });
    w.apply();
    await w.ready();
    await w.quiet();
    const [before, mark] = [w.published(...namespaces), w.api.audit.mark()];
    w.apply(spec);
    const stalled = await eventually('it is told', () => w.condition('Stalled'));
    expect(stalled).toMatchObject({ status: 'True', reason: 'InvalidSpec' });
    expect(stalled.message).toMatch(message);
    expect(w.condition('Ready')).toMatchObject({ status: 'False', reason: 'InvalidSpec', message: stalled.message });
    await w.quiet();
    expect(w.published(...namespaces)).toEqual(before);
    w.apply();
    await w.ready();
    expect(w.condition('Stalled')).toBeUndefined();
    expect(w.api.audit.since(mark).fanOutWrites({ user: w.sandbox.operatorUser })).toEqual([]);
  });

  it('globs that match nothing is ready, and says so with the fields to look at', async () => {
    await using w = await startWorld({ namespaces });
    await w.operator();
    w.apply({ namespaces: { names: ['nobody-*'] } });
    await w.ready();
    expect(w.condition('Ready')).toMatchObject({
      reason: 'NoNamespaceMatches',
      message: 'no namespace matches spec.namespaces: look at its selector, names and exclude',
    });
    w.createNamespace('nobody-1');
    await w.served('nobody-1');
  });
});

it('a host that a refused spec leaves out stays, also where the operator starts again under it, and once more', async () => {
  const other = '123456789012.dkr.ecr.eu-west-1.amazonaws.com';
  const args = ['--removal-delay=20ms'];
  await using w = await startWorld({ namespaces });
  const first = await w.operator({ args });
  w.apply({ registries: [{ host }, { host: other }] });
  await w.ready();
  await w.quiet();
  const before = w.published(...namespaces);
  await first.stop();
  w.apply({ registries: [{ host }], refresh: { schedule: '0 0 31 2 *' } });
  const second = await w.operator({ args });
  await eventually('it is told', () => w.condition('Stalled'));
  await w.quiet();
  await second.stop();
  const third = await w.operator({ args });
  await eventually('it leads', async () => (await third.metric('ecr_pull_secrets_leader')) === 1);
  await w.quiet();
  expect(w.published(...namespaces)).toEqual(before);
  expect(w.resource().status?.registries.map((registry) => registry.host)).toEqual([host, other]);
  w.apply();
  await eventually('a good spec lets it go', () => !Object.hasOwn(w.auths('team-a'), other));
  expect(Object.keys(w.auths('team-a'))).toEqual([host]);
});

it('keys for a resource that began without are taken by the same apply, and leave by one without', async () => {
  await using w = await startWorld({ namespaces });
  w.apply();
  const credentials = { accessKeySecretRef: { name: 'aws-credentials' } };
  w.apply({ credentials });
  expect(w.resource()['spec']).toMatchObject({ credentials });
  expect(w.resource()['spec']).not.toHaveProperty('credentials.operatorIdentity');
  w.apply();
  expect(w.resource()['spec']).not.toHaveProperty('credentials');
});

describe.concurrent('a Secret with AWS keys', () => {
  const encoded = (text: string): string => Buffer.from(text).toString('base64');
  const manifest = (w: World, keys: Record<string, string>) => ({
    ...{ apiVersion: 'v1', kind: 'Secret', type: 'Opaque' },
    metadata: { name: 'aws-credentials', namespace: w.sandbox.namespace },
    data: Object.fromEntries(Object.entries(keys).map(([name, value]) => [name, encoded(value)])),
  });
  const good = { AWS_ACCESS_KEY_ID: 'AKIAUSER', AWS_SECRET_ACCESS_KEY: 'user-secret-key' };
  const both = 'it must hold AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY';

  it.each<[string, (w: World) => void, string, string | RegExp]>([
    [
      'is deleted',
      (w) => w.admin.delete(`/api/v1/namespaces/${w.sandbox.namespace}/secrets/aws-credentials`),
      'CredentialsNotFound',
      'the Secret ecr-pull-secrets/aws-credentials does not exist: create it with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
    ],
    [
      'names a key in another way',
      (w) =>
        w.admin.merge(`/api/v1/namespaces/${w.sandbox.namespace}/secrets/aws-credentials`, {
          data: { AWS_SECRET_ACCESS_KEY: null, AWS_SECRET_KEY: encoded('canary-of-the-wrong-key') },
        }),
      'InvalidCredentials',
      `the key AWS_SECRET_ACCESS_KEY of the Secret ecr-pull-secrets/aws-credentials is missing: ${both}`,
    ],
    [
      'has a key that is empty',
      (w) =>
        w.admin.merge(`/api/v1/namespaces/${w.sandbox.namespace}/secrets/aws-credentials`, {
          data: { AWS_ACCESS_KEY_ID: encoded(' \n') },
        }),
      'InvalidCredentials',
      `the key AWS_ACCESS_KEY_ID of the Secret ecr-pull-secrets/aws-credentials is empty: ${both}`,
    ],
    [
      'has the key of another account that AWS does not know',
      (w) =>
        w.admin.merge(`/api/v1/namespaces/${w.sandbox.namespace}/secrets/aws-credentials`, {
          data: { AWS_ACCESS_KEY_ID: encoded('AKIAUNKNOWN') },
        }),
      'InvalidCredentials',
      /^AWS does not accept the keys of the Secret ecr-pull-secrets\/aws-credentials for ecr:GetAuthorizationToken in us-east-1: a key is wrong, deleted or inactive/,
    ],
  ])('that %s is told, what is published stays, and mended it is taken at once', async (_, spoil, reason, message) => {
    await using w = await startWorld({ namespaces });
    w.sandbox.aws.sessions.addUser(good.AWS_ACCESS_KEY_ID);
    const operator = await w.operator({ args: ['--removal-delay=20ms'] });
    w.admin.apply(manifest(w, good));
    w.apply({ credentials: { accessKeySecretRef: { name: 'aws-credentials' } } });
    await w.ready();
    const before = w.published(...namespaces);
    spoil(w);
    const told = await eventually('it is told', () => {
      const condition = w.condition('Refreshed');
      return condition?.status === 'False' ? condition : null;
    });
    expect(told.reason).toBe(reason);
    expect(told.message.slice(0, host.length + 2)).toBe(`${host}: `);
    expect(told.message.slice(host.length + 2)).toEqual(
      typeof message === 'string' ? message : expect.stringMatching(message),
    );
    await w.quiet();
    expect(w.published(...namespaces)).toEqual(before);
    expect(JSON.stringify(w.resource()) + operator.output.join('')).not.toContain('canary');
    w.admin.apply(manifest(w, good));
    await w.ready();
    expect(w.condition('Refreshed')).toMatchObject({ status: 'True' });
  });

  it('that the operator may not read is told with the value of the chart, and what is published stays', async () => {
    await using w = await startWorld({ namespaces });
    await w.operator({ args: ['--removal-delay=20ms'] });
    w.apply();
    await w.ready();
    const before = w.published(...namespaces);
    w.apply({ credentials: { accessKeySecretRef: { name: 'other-keys' } } });
    const ready = await eventually('it is told', () => {
      const condition = w.condition('Ready');
      return condition?.reason === 'CredentialsNotAllowed' ? condition : null;
    });
    expect(ready.message).toBe(
      `${host}: spec.credentials.accessKeySecretRef.name: the operator may not read the Secret other-keys: add it to the chart value credentialSecretNames (now: aws-credentials)`,
    );
    await w.quiet();
    expect(w.published(...namespaces)).toEqual(before);
  });
});
