import { expect, it } from 'vitest';
import type { Results } from '../../cluster/runSuite.ts';
import { reliabilityPage } from '../report.ts';

// A report that leaves out what went wrong would be worse than none.

type Status = Results['testResults'][number]['assertionResults'][number]['status'];

function file(name: string, tests: Record<string, Status>, status = 'passed'): Results['testResults'][number] {
  const assertionResults = Object.entries(tests).map(([title, one]) => ({ ancestorTitles: [], title, status: one }));
  return { name: `/x/${name}.test.ts`, status, startTime: 0, endTime: 1, assertionResults };
}

function page(testResults: Results['testResults'], source = ''): string {
  const all = testResults.flatMap(({ assertionResults }) => assertionResults);
  const count = (status: Status): number => all.filter((one) => one.status === status).length;
  return reliabilityPage(
    {
      ...{ numPassedTests: count('passed'), numFailedTests: count('failed'), numTodoTests: 0 },
      ...{ numPendingTests: count('skipped') + count('pending'), testResults },
    },
    { seed: '1', isLong: false, date: 'today', machine: 'here', sourceOf: () => source },
  );
}

it('tells what held, what broke and what was not run', () => {
  const text = page([file('watches', { 'a goes': 'passed', 'b goes': 'failed', 'c goes': 'skipped' }, 'failed')]);
  expect(text).toContain('| A goes | held |');
  expect(text).toContain('| B goes | **BROKEN** |');
  expect(text).toContain('| C goes | not run |');
  expect(text).toMatch(/: 1 held, 1 broken, 1 not run, \d+ chapters not run\.$/m);
  expect(text).toMatch(/^## Clocks\n[^#]*\nNot run\.$/m);
  expect(text).not.toContain('as a whole');
});

it('tells of a file whose cluster never came up', () => {
  const text = page([file('watches', { 'a goes': 'pending' }, 'failed')]);
  expect(text).toContain('| The file as a whole | **BROKEN** |');
  expect(text).toMatch(/: 0 held, 0 broken, 1 not run, \d+ chapters not run, 1 files broken as a whole\.$/m);
});

it('says of each chapter what is held in it', () => {
  const held = (source: string) => /SIGKILL.*?(Held: .*) Tests: /.exec(page([], source))?.[1];
  expect(held('await endurance.under(x); await endurance.afterwards()')).toBe('Held: all of them.');
  expect(held('await endurance.under(x); await night.quiet()')).toBe('Held: all but 10.');
  expect(held('await night.whole([]); moreThan(a, b)')).toBe('Held: all but 8, 10. (Of 4 the state alone.)');
  expect(held('await night.violations()')).toBe('Held: all but 4, 5, 8, 10.');
});
