import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matchesGlob, matchesName } from '../../src/core/glob.ts';

describe('matchesGlob', () => {
  it.each([
    ['*', '', true],
    ['*', 'anything', true],
    ['team-*', 'team-a', true],
    ['team-*', 'team-', true],
    ['team-*', 'a-team-b', false],
    ['*-prod', 'shop-prod', true],
    ['*-prod', 'shop-prod-2', false],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-c-b', false],
    ['default', 'default', true],
    ['default', 'default2', false],
    ['a.c', 'abc', false],
    ['', '', true],
    ['', 'a', false],
  ])('%s on %s: %s', (pattern, text, expected) => {
    expect(matchesGlob(pattern, text)).toBe(expected);
  });

  it('agrees with the regular expression that it stands for', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '-'), maxLength: 12 });
    const globs = fc.string({ unit: fc.constantFrom('a', 'b', '-', '*'), maxLength: 6 });
    fc.assert(
      fc.property(globs, letters, (glob, text) => {
        expect(matchesGlob(glob, text)).toBe(new RegExp(`^${glob.replaceAll('*', '.*')}$`).test(text));
      }),
    );
  });

  it('takes a pattern made to stall a regular expression in bounded steps', () => {
    expect(matchesGlob('*a*a*a*a*a*a*a*a*a*a*a*a*a*b', 'a'.repeat(253))).toBe(false);
  });
});

describe('matchesName', () => {
  it('lets exclude win over names', () => {
    expect(matchesName({ names: ['*'], exclude: ['build*'] }, 'builder')).toBe(false);
    expect(matchesName({ names: ['*'], exclude: ['build*'] }, 'default')).toBe(true);
  });
  it('matches nothing without a name', () => {
    expect(matchesName({ names: [], exclude: [] }, 'default')).toBe(false);
  });
});
