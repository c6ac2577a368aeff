import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Results } from '../cluster/runSuite.ts';
import { guards, type Guard } from './guards.ts';
import { judge, mistakesIn } from './judge.ts';

// `npm run test:guards` takes an hour: what would keep it from its work is seen here.

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): string | null =>
  existsSync(join(root, path)) ? readFileSync(join(root, path), 'utf8') : null;

it.each(guards.map((guard) => [guard.what, guard] as const))('the line is there, and its test: %s', (_, guard) => {
  expect(mistakesIn(guard, read)).toEqual([]);
});

it('no guard is there twice', () => {
  expect(new Set(guards.map(({ what }) => what)).size).toBe(guards.length);
});

const guard: Guard = { what: 'x', file: 'a.ts', line: 'one', instead: 'two', test: 'a.test.ts', fails: 'holds' };

describe('a mistake in a guard', () => {
  const files: Record<string, string> = { 'a.ts': 'one\n', 'a.test.ts': "it('holds')" };
  const count = (o: Partial<Guard>, others: Record<string, string> = {}) =>
    mistakesIn({ ...guard, ...o }, (path) => ({ ...files, ...others })[path] ?? null).length;

  it('is found', () => {
    expect(count({})).toBe(0);
    expect([count({ line: 'three' }), count({}, { 'a.ts': 'one one' }), count({ file: 'b.ts' })]).toEqual([1, 1, 1]);
    expect([count({ test: 'b.test.ts' }), count({ named: 'other' }), count({ fails: 'other' })]).toEqual([1, 1, 1]);
    expect(count({ instead: 'one' })).toBe(1);
  });
});

describe('a guard is seen', () => {
  const isSeen = (titles: Record<string, 'passed' | 'failed'>, status = 'failed') =>
    judge(guard, {
      testResults: [
        {
          status,
          assertionResults: Object.entries(titles).map(([title, one]) => ({
            ancestorTitles: ['it'],
            title,
            status: one,
          })),
        },
      ],
    } as unknown as Results).isSeen;

  it('by the test that is there for it, and by nothing else', () => {
    expect(isSeen({ 'holds it': 'failed', other: 'passed' })).toBe(true);
    expect(isSeen({ 'holds it': 'failed', other: 'failed' })).toBe(true);
    expect(isSeen({ 'holds it': 'passed', other: 'failed' })).toBe(false);
    expect(isSeen({ 'holds it': 'passed' }, 'passed')).toBe(false);
  });

  it('not by a file that fails as a whole, nor where nothing was run', () => {
    expect([isSeen({}), isSeen({ 'holds it': 'passed' }), isSeen({}, 'passed')]).toEqual([false, false, false]);
  });
});
