import { describe, expect, it } from 'vitest';
import { statusOf, type NamespaceFacts, type RegistryFacts, type ResourceFacts } from '../../src/core/status.ts';

const NOW = new Date('2026-11-25T00:00:00Z');
const LATER = new Date('2026-11-25T01:00:00Z');

const registry = (overrides: Partial<RegistryFacts> = {}): RegistryFacts => ({
  host: '123456789012.dkr.ecr.us-east-1.amazonaws.com',
  region: 'us-east-1',
  state: 'usable',
  expiresAt: new Date('2026-11-25T12:00:00Z'),
  lastRefreshTime: NOW,
  nextRefreshTime: new Date('2026-11-25T05:50:00.789Z'),
  failure: null,
  note: null,
  ...overrides,
});

const counts = (overrides: Partial<NamespaceFacts> = {}): NamespaceFacts => ({
  ...{ matched: 3, ready: 3, young: 0, blocked: [], failed: [] },
  ...overrides,
});

const facts = (overrides: Partial<ResourceFacts> = {}): ResourceFacts => ({
  generation: 2,
  isSuspended: false,
  specProblem: null,
  missingPermissions: [],
  isGuarded: true,
  registries: [registry()],
  namespaces: counts(),
  ...overrides,
});

function conditions(overrides: Partial<ResourceFacts>): Record<string, string> {
  const status = statusOf(facts(overrides), undefined, NOW);
  return Object.fromEntries((status.conditions ?? []).map(({ type, status, reason }) => [type, `${status}/${reason}`]));
}

const failure = { code: 'AccessDenied', message: 'not authorized' };
const one = [{ namespace: 'team-a', message: 'is not ours' }];

describe('conditions', () => {
  it.each<[string, Partial<ResourceFacts>, Record<string, string>]>([
    ['all is well', {}, { Ready: 'True/Ready', Refreshed: 'True/Refreshed' }],
    [
      'no namespace matches',
      { namespaces: counts({ matched: 0, ready: 0 }) },
      { Ready: 'True/NoNamespaceMatches', Refreshed: 'True/Refreshed' },
    ],
    [
      'the first token is asked for',
      { registries: [registry({ state: 'unknown' })] },
      { Ready: 'False/Pending', Refreshed: 'Unknown/Pending' },
    ],
    [
      'the first refresh failed',
      { registries: [registry({ state: 'unknown', failure })] },
      { Ready: 'False/AccessDenied', Refreshed: 'False/AccessDenied' },
    ],
    [
      'a later refresh failed and the token is good',
      { registries: [registry({ failure })] },
      { Ready: 'True/Ready', Refreshed: 'False/AccessDenied' },
    ],
    [
      'a token has expired',
      { registries: [registry({ state: 'expired', failure })] },
      { Ready: 'False/Expired', Refreshed: 'False/Expired' },
    ],
    [
      'a namespace is blocked by its owner: Ready is left alone',
      { namespaces: counts({ ready: 2, blocked: one }) },
      { Ready: 'True/Ready', Refreshed: 'True/Refreshed', Blocked: 'True/ForeignSecret' },
    ],
    [
      'a namespace failed',
      { namespaces: counts({ ready: 2, failed: one }) },
      { Ready: 'False/NamespacesFailed', Refreshed: 'True/Refreshed' },
    ],
    [
      'old namespaces wait',
      { namespaces: counts({ ready: 1, young: 1 }) },
      { Ready: 'False/Progressing', Refreshed: 'True/Refreshed', Reconciling: 'True/Progressing' },
    ],
    [
      'the spec is refused',
      { specProblem: { code: 'InvalidSpec', message: 'spec.x: no' } },
      { Ready: 'False/InvalidSpec', Refreshed: 'Unknown/InvalidSpec', Stalled: 'True/InvalidSpec' },
    ],
    ['suspended', { isSuspended: true }, { Ready: 'Unknown/Suspended', Refreshed: 'True/Refreshed' }],
    [
      'a right is missing',
      { missingPermissions: ['patch serviceaccounts'] },
      { Ready: 'False/MissingPermission', Refreshed: 'True/Refreshed' },
    ],
    [
      'the policy is missing',
      { isGuarded: false },
      { Ready: 'True/Ready', Refreshed: 'True/Refreshed', Unguarded: 'True/PolicyMissing' },
    ],
  ])('%s', (_, overrides, expected) => {
    expect(conditions(overrides)).toEqual(expected);
  });
});

describe('namespaces that are younger than a minute', () => {
  const ready = (namespaces: NamespaceFacts, previous?: ReturnType<typeof statusOf>) =>
    statusOf(facts({ namespaces }), previous, NOW).conditions?.find(({ type }) => type === 'Ready');
  const before = (overrides: Partial<ResourceFacts>) => statusOf(facts(overrides), undefined, NOW);

  it.each<[string, ReturnType<typeof statusOf> | undefined, Partial<NamespaceFacts>, string]>([
    ['all of them wait, nothing was served before', undefined, { ready: 0, young: 3 }, 'False/Progressing'],
    ['one of them waits, nothing was told before', undefined, { ready: 2, young: 1 }, 'False/Progressing'],
    ['one comes while all is well', before({}), { matched: 4, ready: 3, young: 1 }, 'True/Ready'],
    [
      'the first comes where none matched',
      before({ namespaces: counts({ matched: 0, ready: 0 }) }),
      { matched: 1, ready: 0, young: 1 },
      'True/Ready',
    ],
    [
      'they wait for the first token',
      before({ registries: [registry({ state: 'unknown' })] }),
      { ready: 0, young: 3 },
      'False/Progressing',
    ],
    ['one comes while others wait', before({}), { matched: 5, ready: 3, young: 1 }, 'False/Progressing'],
  ])('%s', (_, previous, overrides, expected) => {
    const condition = ready(counts(overrides), previous);
    expect(`${condition?.status}/${condition?.reason}`).toBe(expected);
  });
});

describe('status', () => {
  it('shows what kubectl prints', () => {
    const soon = registry({ host: 'b.example', expiresAt: new Date('2026-11-25T06:00:00Z') });
    expect(statusOf(facts({ registries: [registry(), soon] }), undefined, NOW)).toMatchObject({
      observedGeneration: 2,
      registryCount: 2,
      namespacesReady: '3/3',
      expiresAt: '2026-11-25T06:00:00Z',
      nextRefreshTime: '2026-11-25T05:50:00Z',
    });
  });
  it('is equal for equal facts, whenever it is made', () => {
    const before = statusOf(facts(), undefined, NOW);
    expect(statusOf(facts(), before, LATER)).toEqual(before);
  });
  it('tells a transition only when the status of a condition changes', () => {
    const before = statusOf(facts({ registries: [registry({ failure })] }), undefined, NOW);
    const other = { code: 'Throttled', message: 'slow down' };
    const after = statusOf(facts({ registries: [registry({ failure: other })] }), before, LATER);
    const refreshed = after.conditions?.find(({ type }) => type === 'Refreshed');
    expect(refreshed).toMatchObject({ reason: 'Throttled', lastTransitionTime: '2026-11-25T00:00:00Z' });
    const healed = statusOf(facts(), after, LATER).conditions?.find(({ type }) => type === 'Refreshed');
    expect(healed?.lastTransitionTime).toBe('2026-11-25T01:00:00Z');
  });
  it('of a refused spec keeps the registries of the last good one: theirs is what is published', () => {
    const before = statusOf(facts(), undefined, NOW);
    const specProblem = { code: 'InvalidSpec', message: 'spec.x: no' };
    const refused = statusOf(facts({ specProblem, registries: [] }), before, LATER);
    const { nextRefreshTime: _nextRefreshTime, ...kept } = before.registries?.[0] ?? {};
    expect(refused).toMatchObject({ registryCount: 1, expiresAt: before.expiresAt, registries: [kept] });
    expect(JSON.stringify(refused)).not.toContain('nextRefreshTime');
    expect(statusOf(facts({ specProblem, registries: [] }), refused, LATER)).toEqual(refused);
    expect(statusOf(facts({ specProblem, registries: [] }), undefined, NOW).registryCount).toBe(0);
  });
  it('lists the first ten failures', () => {
    const failed = Array.from({ length: 12 }, (_, i) => ({ namespace: `n${i}`, message: 'no' }));
    expect(statusOf(facts({ namespaces: counts({ failed }) }), undefined, NOW).failures).toHaveLength(10);
  });
});
