import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { parseSpec } from '../../src/api/clusterEcrPullSecret.ts';
import { badSamples, goodSpec } from '../api/badSamples.ts';
import { startCluster, type Cluster } from './cluster.ts';
import type { KubeApi } from './kubeApi.ts';
import { installDeploy, operatorNamespace, startOperator, type Operator } from './operator.ts';
import { createNamespaces, resource, resourcePath, waitForCondition, waitUntilServed } from './served.ts';
import { StandInEcr } from './standInEcr.ts';

// Bad input ends in words: of the API server where a schema can refuse it, else in a condition.

let cluster: Cluster;
let admin: KubeApi;
let ecr: StandInEcr;
let operator: Operator;

beforeAll(async () => {
  cluster = await startCluster();
  admin = cluster.admin;
  ecr = await StandInEcr.start();
  await installDeploy(cluster);
  await createNamespaces(admin, 2);
  operator = await startOperator({ cluster, env: ecr.env });
});
afterAll(async () => {
  await cluster?.stop();
  await ecr?.close();
});

interface Status {
  message: string;
  details?: { causes?: { field?: string; message?: string }[] };
}

describe('refused by the API server as by parseSpec', () => {
  test('the good one is taken by both', async () => {
    expect(parseSpec(goodSpec)).toHaveProperty('spec');
    await admin.create(resource('good', goodSpec));
    await admin.delete(resourcePath('good'));
  });

  test.each(badSamples)('$name', async ({ spec, field, message }) => {
    const parsed = parseSpec(spec);
    const errors = 'errors' in parsed ? parsed.errors : [];
    expect(errors.find((error) => error.field === field)?.message).toContain(message);
    const body = { ...resource('bad'), spec };
    const answer = await admin.request<Status>('POST', '/apis/ecr.pullsecrets.io/v1alpha1/clusterecrpullsecrets', {
      body,
    });
    expect(answer.status, JSON.stringify(answer.body)).toBe(422);
    const causes = answer.body.details?.causes ?? [];
    const blamed = causes.filter((cause) => asParsed(cause.field) === field);
    expect(blamed.map((cause) => asNewest(cause.message)).join('\n'), JSON.stringify(causes)).toContain(message);
  });
});

test('keys are taken by the apply of a resource that began without credentials, and leave by one without', async () => {
  await admin.apply(resource('later', goodSpec));
  const credentials = { accessKeySecretRef: { name: 'aws-credentials' } };
  const applied = await admin.apply(resource('later', { ...goodSpec, credentials }));
  expect(applied['spec']).toMatchObject({ credentials });
  expect(applied['spec']).not.toHaveProperty('credentials.operatorIdentity');
  expect((await admin.apply(resource('later', goodSpec)))['spec']).not.toHaveProperty('credentials');
  await admin.delete(resourcePath('later'));
});

// Older versions say it otherwise.
function asNewest(message = ''): string {
  return message.replace('may not be longer than', 'may not be more than');
}

// The API server quotes keys of maps and ours does not; lists of scalars it blames as a whole in some versions.
function asParsed(field = ''): string {
  return field.replaceAll('"', '');
}

describe('told in a condition with the remedy', () => {
  afterEach(() => admin.delete(resourcePath('told')));

  const refusedSpecs: [name: string, spec: Record<string, unknown>, message: RegExp][] = [
    ['31 February', { refresh: { schedule: '0 0 31 2 *' } }, /spec\.refresh: schedule: .*never/],
    ['an hour that there is not', { refresh: { schedule: '0 25 * * *' } }, /spec\.refresh: schedule: .*/],
    [
      'an unknown time zone',
      { refresh: { schedule: '0 0 * * *', timeZone: 'Europe/Atlantis' } },
      /spec\.refresh: timeZone: "Europe\/Atlantis" is not a time zone like Europe\/Paris/,
    ],
  ];
  test.each(refusedSpecs)('%s', async (_, spec, message) => {
    await admin.create(resource('told', spec));
    const stalled = await waitForCondition(admin, 'Stalled', () => true, { name: 'told' });
    expect(stalled).toMatchObject({ status: 'True', message: expect.stringMatching(message) as string });
    const ready = await waitForCondition(admin, 'Ready', () => true, { name: 'told' });
    expect(ready).toMatchObject({ status: 'False', message: expect.stringMatching(message) as string });
  });

  test('an unknown time zone without a schedule', async () => {
    await admin.create(resource('told', { refresh: { timeZone: 'Europe/Atlantis' } }));
    const ready = await waitForCondition(admin, 'Ready', () => true, { name: 'told' });
    expect(ready).toMatchObject({ status: 'False', message: expect.stringContaining('Europe/Atlantis') as string });
  });

  test('a Secret of AWS keys that is missing, then lacks a key, then is whole', async () => {
    const { namespace } = { namespace: operatorNamespace };
    const keys = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'aws-credentials', namespace } };
    await admin.create(resource('told', { credentials: { accessKeySecretRef: { name: 'aws-credentials' } } }));
    const missing = await waitForCondition(admin, 'Ready', ({ reason }) => reason !== 'Pending', { name: 'told' });
    expect(missing).toMatchObject({ status: 'False', reason: 'CredentialsNotFound' });
    expect(missing.message).toMatch(/ecr-pull-secrets\/aws-credentials .*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY/);

    const half = { AWS_ACCESS_KEY_ID: 'AKIAHALF', AWS_SECRET_KEY: 'canary-of-the-wrong-key' };
    await admin.create({ ...keys, stringData: half });
    const wrong = await waitForCondition(admin, 'Ready', ({ reason }) => reason === 'InvalidCredentials', {
      name: 'told',
    });
    expect(wrong.message).toMatch(/AWS_SECRET_ACCESS_KEY of the Secret .*aws-credentials/);
    expect(JSON.stringify(await admin.get(resourcePath('told')))).not.toContain('canary');

    await admin.patch(`/api/v1/namespaces/${namespace}/secrets/aws-credentials`, {
      stringData: { AWS_SECRET_ACCESS_KEY: 'canary-of-the-right-key\n' },
    });
    await waitForCondition(admin, 'Ready', ({ status }) => status === 'True', { name: 'told' });
    await waitUntilServed(admin, ['team-0', 'team-1']);
    expect(ecr.calls.at(-1)?.accessKeyId).toBe('AKIAHALF');
  });

  test('a Secret that is not among credentialSecretNames', async () => {
    await admin.create(resource('told', { credentials: { accessKeySecretRef: { name: 'other-keys' } } }));
    const ready = await waitForCondition(admin, 'Ready', ({ reason }) => reason !== 'Pending', { name: 'told' });
    expect(ready).toMatchObject({ status: 'False', reason: 'CredentialsNotAllowed' });
    expect(ready.message).toMatch(/other-keys.*credentialSecretNames.*aws-credentials/);
  });

  test('a glob that matches nothing', async () => {
    await admin.create(resource('told', { namespaces: { names: ['nobody-*'] } }));
    const ready = await waitForCondition(admin, 'Ready', ({ status }) => status === 'True', { name: 'told' });
    expect(ready).toMatchObject({ reason: 'NoNamespaceMatches' });
  });

  test('no key was told anywhere', async () => {
    const events = JSON.stringify(await admin.list('/apis/events.k8s.io/v1/events'));
    expect(events + operator.output() + (await operator.metrics())).not.toContain('canary');
  });
});
