import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diffNamespace, type ObservedNamespace } from '../../src/core/diffNamespace.ts';
import type { NamespaceView } from '../../src/core/namespaceSelection.ts';
import { isHeld, planNamespace, type Resources, type TokenState } from '../../src/core/planNamespace.ts';
import {
  after,
  HOST,
  kinds,
  namespace,
  observed,
  resource,
  resources,
  SECRET,
  secret,
  serviceAccount,
  usable,
} from './namespaceWorld.ts';

const OTHER = '210987654321.dkr.ecr.eu-west-1.amazonaws.com';
const PUBLIC = 'public.ecr.aws';

function run(o: {
  world?: Resources;
  seen?: ObservedNamespace;
  in?: NamespaceView;
  tokenOf?: (resource: string, host: string) => TokenState;
  mayRemove?: boolean;
}) {
  const plan = planNamespace(o.in ?? namespace(), o.world ?? resources(resource()), o.tokenOf ?? (() => usable('t1')));
  return diffNamespace(plan, o.seen ?? observed(), { secretName: SECRET, mayRemove: o.mayRemove ?? false });
}

const served = observed({ secret: secret({ [HOST]: 't1' }), serviceAccounts: [serviceAccount('default', [SECRET])] });

describe('a namespace that is selected', () => {
  it('gets the Secret first and then the entry', () => {
    expect(kinds(run({}))).toEqual(['ApplySecret', 'AddEntry default']);
  });
  it('is left alone when nothing has changed', () => {
    expect(run({ seen: served })).toEqual({ writes: [], isRemovalPending: false, isBlocked: false });
  });
  it('gets one write for a new token', () => {
    expect(kinds(run({ seen: served, tokenOf: () => usable('t2') }))).toEqual(['ApplySecret']);
  });
  it('gets nothing while no token is known', () => {
    expect(kinds(run({ tokenOf: () => ({ state: 'unknown' }) }))).toEqual([]);
  });
  it('gets no entry where the Secret alone is asked for', () => {
    const world = resources(resource({ serviceAccounts: { names: [], exclude: [] } }));
    expect(kinds(run({ world }))).toEqual(['ApplySecret']);
  });
  it('keeps entries of others and is healed of a doubled one of ours', () => {
    const seen = { ...served, serviceAccounts: [serviceAccount('default', [SECRET, 'own', SECRET])] };
    const diff = run({ seen });
    expect(kinds(diff)).toEqual(['AddEntry default']);
    expect(after(seen, diff.writes).serviceAccounts?.[0]?.entries).toEqual([SECRET, 'own']);
  });
  it.each([
    ['edited', secret({ [HOST]: 't1' }, { isIntact: false })],
    ['stripped of its annotation', secret(null, { isIntact: false, patterns: [] })],
  ])('has its Secret put right when that is %s', (_, edited) => {
    expect(kinds(run({ seen: { ...served, secret: edited } }))).toEqual(['ApplySecret']);
  });
  it('is blocked by a foreign Secret of our name, which is not touched', () => {
    const diff = run({ seen: { ...served, secret: secret({}, { isOurs: false }) }, mayRemove: true });
    expect(diff).toEqual({ writes: [], isRemovalPending: false, isBlocked: true });
  });
  it('gives up the ownership of the list that the API server noted for us', () => {
    const seen = { ...served, serviceAccounts: [serviceAccount('default', [SECRET], { ownedAt: 1 })] };
    expect(kinds(run({ seen }))).toEqual(['ReleaseOwnership default']);
  });
});

describe('a namespace that is on its way out', () => {
  it('is not touched', () => {
    expect(run({ in: namespace({ terminating: true }), mayRemove: true, seen: served }).writes).toEqual([]);
  });
});

describe('removal', () => {
  const nobody = resources();
  it('is only pending before it is allowed', () => {
    expect(run({ world: nobody, seen: served })).toEqual({ writes: [], isRemovalPending: true, isBlocked: false });
  });
  it('takes the entries before the Secret', () => {
    expect(kinds(run({ world: nobody, seen: served, mayRemove: true }))).toEqual([
      'RemoveEntry default',
      'DeleteSecret',
    ]);
  });
  it('leaves an entry that a user put on a ServiceAccount which was never served', () => {
    const seen = {
      ...served,
      serviceAccounts: [serviceAccount('default', [SECRET]), serviceAccount('mine', [SECRET])],
    };
    expect(kinds(run({ world: nobody, seen, mayRemove: true }))).toEqual(['RemoveEntry default', 'DeleteSecret']);
  });
  it('of a pattern takes its entries, remembering it until they are gone', () => {
    const all = { names: ['*'], exclude: [] };
    const seen = {
      ...served,
      secret: secret({ [HOST]: 't1' }, { patterns: [all] }),
      serviceAccounts: [serviceAccount('app-1', [SECRET]), serviceAccount('other', [SECRET])],
    };
    const world = resources(resource({ serviceAccounts: { names: ['app-*'], exclude: [] } }));
    const first = run({ world, seen, mayRemove: true });
    expect(kinds(first)).toEqual(['ApplySecret', 'RemoveEntry other']);
    const then = after(seen, first.writes);
    expect(then.secret?.patterns).toContainEqual(all);
    const last = run({ world, seen: then, mayRemove: true });
    expect(after(then, last.writes).secret?.patterns).toEqual([{ names: ['app-*'], exclude: [] }]);
  });
  it.each([false, true])(
    'of a Secret that goes as a whole does not first write or read it (may remove: %s)',
    (mayRemove) => {
      const seen = { ...served, serviceAccounts: [serviceAccount('default', [])] }; // its entry has gone before it
      const diff = run({ world: nobody, seen, mayRemove });
      expect(kinds(diff)).toEqual(mayRemove ? ['DeleteSecret'] : []);
      expect(diff.isRemovalPending).toBe(!mayRemove);
    },
  );
  it('of a host keeps the others', () => {
    const seen = { ...served, secret: secret({ [HOST]: 't1', [OTHER]: 't1' }) };
    expect(run({ seen }).isRemovalPending).toBe(true);
    const diff = run({ seen, mayRemove: true });
    expect([...(after(seen, diff.writes).secret?.hosts?.keys() ?? [])]).toEqual([HOST]);
  });
  it('takes everything from a namespace that asks to be ignored, also what is held', () => {
    const world = resources(resource({ held: 'Suspended' }));
    const diff = run({ world, seen: served, in: namespace({ ignored: true }), mayRemove: true });
    expect(kinds(diff)).toEqual(['RemoveEntry default', 'DeleteSecret']);
  });
  it('takes the entry from a ServiceAccount that asks to be ignored', () => {
    const seen = { ...served, serviceAccounts: [serviceAccount('default', [SECRET], { isIgnored: true })] };
    expect(kinds(run({ seen, mayRemove: true }))).toEqual(['RemoveEntry default']);
  });
});

describe('what is held stays', () => {
  it.each([
    ['suspended', resources(resource({ held: 'Suspended' }))],
    ['refused', resources(resource({ held: 'InvalidSpec', registries: null, serviceAccounts: null }))],
    ['refused, its hosts known', resources(resource({ held: 'InvalidSpec', serviceAccounts: null }))],
    ['perhaps not listed yet', { inOrder: [], heldUnlessIn: new Set([OTHER]) }],
  ])('%s', (_, world) => {
    expect(run({ world, seen: served, mayRemove: true })).toEqual({
      writes: [],
      isRemovalPending: false,
      isBlocked: false,
    });
  });
  it('with an unknown token', () => {
    const diff = run({ seen: served, tokenOf: () => ({ state: 'unknown' }), mayRemove: true });
    expect(diff.writes).toEqual([]);
  });
  it('with an expired token of a private host, since kubelets still start local images', () => {
    expect(run({ seen: served, tokenOf: () => ({ state: 'expired' }), mayRemove: true }).writes).toEqual([]);
  });
  it('but an expired entry of the public registry goes: it breaks pulls that work without any', () => {
    const world = resources(resource({ registries: [{ host: PUBLIC, allowsAnonymousPulls: true }] }));
    const seen = { ...served, secret: secret({ [PUBLIC]: 't1' }) };
    const diff = run({ world, seen, tokenOf: () => ({ state: 'expired' }), mayRemove: true });
    expect(kinds(diff)).toContain('DeleteSecret');
  });
  it('is carried over by a write for another host', () => {
    const world = resources(
      resource({ name: 'a', registries: [{ host: OTHER, allowsAnonymousPulls: false }] }),
      resource({ name: 'b', held: 'Suspended' }),
    );
    const diff = run({ world, seen: served, tokenOf: () => usable('t2'), mayRemove: true });
    const [write] = diff.writes;
    expect(write?.kind === 'ApplySecret' && write.keeps?.(HOST)).toBe(true);
  });
});

describe('two resources with the same host', () => {
  const world = resources(resource({ name: 'a' }), resource({ name: 'b' }));
  it('the name first in order wins', () => {
    const plan = planNamespace(namespace(), world, (name) => usable(`token of ${name}`));
    expect(plan?.entries.get(HOST)?.resource).toBe('a');
  });
  it('among those with a usable token', () => {
    const plan = planNamespace(namespace(), world, (name) => (name === 'a' ? { state: 'unknown' } : usable('t')));
    expect(plan?.entries.get(HOST)?.resource).toBe('b');
  });
});

describe('too many hosts', () => {
  it('leave the last in precedence out, and never block the others', () => {
    const hosts = Array.from({ length: 100 }, (_, i) => ({ host: `r${i}.example`, allowsAnonymousPulls: false }));
    const plan = planNamespace(namespace(), resources(resource({ registries: hosts })), () =>
      usable('x'.repeat(20_000)),
    );
    expect(plan?.entries.size).toBeGreaterThan(40);
    expect(plan?.tooLarge.at(-1)).toEqual({ resource: 'production', host: 'r99.example' });
    expect([...(plan?.entries.keys() ?? [])][0]).toBe('r0.example');
  });
});

describe('former Secret names', () => {
  const former = secret({ [HOST]: 't1' }, { name: 'old-pull', uid: 'uid-old' });
  it('go only after the new Secret and entry are there', () => {
    const seen = observed({
      formerSecrets: [former],
      serviceAccounts: [serviceAccount('default', ['own', 'old-pull'])],
    });
    const first = run({ seen, mayRemove: true });
    expect(kinds(first)).toEqual(['ApplySecret', 'AddEntry default']);
    const then = after(seen, first.writes);
    const second = run({ seen: then, mayRemove: true });
    expect(kinds(second)).toEqual(['RemoveEntry default', 'DeleteSecret']);
    expect(after(then, second.writes).serviceAccounts?.[0]?.entries).toEqual(['own', SECRET]);
  });
});

describe('whatever the world', () => {
  const names = fc.constantFrom('a', 'b', 'c');
  const hosts = fc.constantFrom(HOST, OTHER, PUBLIC);
  const view = fc.record({
    held: fc.constantFrom(null, null, 'Suspended'),
    namespaces: fc.constantFrom({}, {}, { exclude: ['team-*'] }),
    serviceAccounts: fc.constantFrom(
      { names: ['default'], exclude: [] },
      { names: ['*'], exclude: ['builder'] },
      { names: [], exclude: [] },
    ),
    registries: fc
      .uniqueArray(hosts, { minLength: 1 })
      .map((list) => list.map((host) => ({ host, allowsAnonymousPulls: host === PUBLIC }))),
  });
  const worlds = fc
    .uniqueArray(fc.tuple(names, view), { selector: ([name]) => name })
    .map((list) => resources(...list.map(([name, rest]) => resource({ name, ...rest }))));
  const entries = fc.array(fc.constantFrom(SECRET, 'own', 'third'), { maxLength: 4 });
  const accounts = fc
    .tuple(entries, entries, fc.boolean())
    .map(([one, two, isIgnored]) => [
      serviceAccount('default', one),
      serviceAccount('builder', two),
      serviceAccount('app', [], { isIgnored }),
    ]);
  const secrets = fc.option(fc.dictionary(hosts, fc.constantFrom('t1', 'old')).map((published) => secret(published)));
  const tokens = fc.constantFrom<TokenState>(usable('t1'), usable('t2'), { state: 'unknown' }, { state: 'expired' });
  const cases = fc.record({
    world: worlds,
    seen: fc.record({ secret: secrets, formerSecrets: fc.constant([]), serviceAccounts: accounts }),
    token: tokens,
    mayRemove: fc.boolean(),
  });

  it('after its writes nothing is left to do', () => {
    fc.assert(
      fc.property(cases, ({ world, seen, token, mayRemove }) => {
        const tokenOf = (): TokenState => token;
        const twice = [1, 2].reduce(
          (state) => after(state, run({ world, seen: state, tokenOf, mayRemove }).writes),
          seen as ObservedNamespace,
        );
        expect(kinds(run({ world, seen: twice, tokenOf, mayRemove }))).toEqual([]);
      }),
      { numRuns: 1_000 },
    );
  });

  it('foreign entries survive, in their order', () => {
    fc.assert(
      fc.property(cases, ({ world, seen, token, mayRemove }) => {
        const then = after(seen, run({ world, seen, tokenOf: () => token, mayRemove }).writes);
        const foreign = (state: ObservedNamespace) =>
          state.serviceAccounts?.map((account) => account.entries.filter((entry) => entry !== SECRET));
        expect(foreign(then)).toEqual(foreign(seen));
      }),
      { numRuns: 1_000 },
    );
  });

  it('a held host is never dropped, and without permission nothing is', () => {
    fc.assert(
      fc.property(cases, ({ world, seen, token, mayRemove }) => {
        const tokenOf = (): TokenState => token;
        const plan = planNamespace(namespace(), world, tokenOf);
        const then = after(seen, run({ world, seen, tokenOf, mayRemove }).writes);
        for (const host of seen.secret?.hosts?.keys() ?? []) {
          const stays = !mayRemove || plan?.entries.has(host) || isHeld(plan!.held, host);
          if (stays) expect(then.secret?.hosts?.has(host)).toBe(true);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('the order in which resources are given is irrelevant', () => {
    fc.assert(
      fc.property(cases, ({ world, seen, token }) => {
        const reversed = resources(...world.inOrder.toReversed());
        const tokenOf = (): TokenState => token;
        expect(kinds(run({ world: reversed, seen, tokenOf }))).toEqual(kinds(run({ world, seen, tokenOf })));
      }),
    );
  });
});
