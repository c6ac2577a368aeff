import { describe, expect, it } from 'vitest';

import { parseSpec } from '../../src/api/clusterEcrPullSecret.ts';
import { badSamples, goodSpec } from './badSamples.ts';

function errorsOf(spec: unknown): { field: string; message: string }[] {
  const parsed = parseSpec(spec);
  return 'errors' in parsed ? parsed.errors : [];
}

it.each(badSamples)('$name is refused, by field and reason, and for nothing else', ({ spec, field, message }) => {
  expect(errorsOf(spec)).toEqual([{ field, message: expect.stringContaining(message) as string }]);
});

it('has a name for each bad sample', () => {
  expect(new Set(badSamples.map(({ name }) => name)).size).toBe(badSamples.length);
});

it('the smallest spec gets all defaults', () => {
  expect(parseSpec(goodSpec)).toEqual({
    spec: {
      suspend: false,
      registries: [{ host: 'public.ecr.aws' }],
      credentials: { operatorIdentity: {}, assumeRoleChain: [] },
      namespaces: { exclude: [] },
      serviceAccounts: { names: ['default'], exclude: [] },
      refresh: { outliveSession: false },
      verification: { mode: 'IfReachable' },
    },
  });
});

it('the largest spec is read as it is', () => {
  const spec = {
    suspend: true,
    registries: [
      { host: '012345678901.dkr.ecr.eu-west-1.amazonaws.com' },
      { host: 'public.ecr.aws', region: 'us-east-1' },
      { host: 'registry.corp.example:5000', region: 'us-east-1' },
    ],
    credentials: {
      accessKeySecretRef: { name: 'aws-credentials' },
      assumeRoleChain: [
        {
          roleArn: 'arn:aws-cn:iam::012345678901:role/team/pull',
          externalId: 'corp:1/2',
          sessionName: 'prod',
          durationSeconds: 43_200,
        },
        { roleArn: 'arn:aws:iam::123456789012:role/pull', durationSeconds: 3600 },
      ],
    },
    namespaces: {
      selector: {
        matchLabels: { team: '', 'example.com/tier': 'a_b.c' },
        matchExpressions: [
          { key: 'ecr', operator: 'NotIn', values: ['off'] },
          { key: 'constructor', operator: 'Exists' },
          { key: 'x', operator: 'DoesNotExist', values: [] },
        ],
      },
      names: ['team-*', '*'],
      exclude: ['kube-system'],
    },
    serviceAccounts: { names: ['*'], exclude: ['builder'] },
    refresh: { schedule: '0 */4 * * MON-FRI', timeZone: 'America/Argentina/Buenos_Aires', outliveSession: true },
    verification: { mode: 'Required' },
  };
  expect(parseSpec(spec)).toEqual({ spec });
});

it('minutely schedules are accepted: the broker bounds them', () => {
  for (const schedule of ['* */3 * * *', '*/1 * * * *']) {
    expect(errorsOf({ ...goodSpec, refresh: { schedule } })).toEqual([]);
  }
});

describe('a resource of a newer version', () => {
  it('is read where it only has more fields', () => {
    const parsed = parseSpec({
      ...goodSpec,
      mirrors: ['x'],
      registries: [{ host: 'public.ecr.aws', priority: 1 }],
      namespaces: { annotations: {} },
    });
    expect(parsed).toEqual(parseSpec(goodSpec));
  });

  it.each([
    ['source', { workloadIdentity: { audience: 'sts' } }, 'spec.credentials'],
    ['source beside a known one', { operatorIdentity: {}, workloadIdentity: {} }, 'spec.credentials'],
    ['option of a source', { operatorIdentity: { profile: 'prod' } }, 'spec.credentials.operatorIdentity'],
    [
      'restriction of a session',
      { operatorIdentity: {}, assumeRoleChain: [{ roleArn: 'arn:aws:iam::123456789012:role/p', policy: '{}' }] },
      'spec.credentials.assumeRoleChain[0]',
    ],
  ])('with an unknown %s is unreadable, never read as another identity', (_, credentials, field) => {
    expect(errorsOf({ ...goodSpec, credentials })).toContainEqual({
      field,
      message: expect.stringContaining('unknown field') as string,
    });
  });
});

it.each([
  ['nothing', undefined],
  ['null', null],
  ['a text', 'spec'],
  ['a list', []],
])('%s in the place of a spec is refused, not thrown', (_, spec) => {
  expect(errorsOf(spec)[0]?.field).toBe('spec');
});

it('names such as __proto__ and constructor are plain names', () => {
  const spec = JSON.parse(
    '{"__proto__": {"suspend": true}, "constructor": 1, "registries": [{"host": "public.ecr.aws"}], "namespaces": {"names": ["constructor"]}}',
  ) as unknown;
  expect(parseSpec(spec)).toMatchObject({ spec: { suspend: false, namespaces: { names: ['constructor'] } } });
});
