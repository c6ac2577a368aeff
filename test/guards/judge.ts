import type { Results } from '../cluster/runSuite.ts';
import type { Guard } from './guards.ts';

/** What was found out about a guard: the tests that failed without its line, or why that says nothing. */
export type Verdict =
  { readonly isSeen: true; readonly failed: readonly string[] } | { readonly isSeen: false; readonly why: string };

/** What is wrong with the guard itself, before anything is run. `read` gives null where there is no such file. */
export function mistakesIn(guard: Guard, read: (path: string) => string | null): string[] {
  const { file, line, instead, test, named, fails } = guard;
  const times = (read(file) ?? '').split(line).length - 1;
  const tests = read(test);
  return [
    ...(times === 1 ? [] : [`${file} has this ${times} times: ${line}`]),
    ...(line === instead ? ['it changes nothing'] : []),
    ...(tests === null ? [`there is no ${test}`] : []),
    ...[named, fails].flatMap((title) =>
      title && tests && !tests.includes(title) ? [`${test} has no “${title}”`] : [],
    ),
  ];
}

/**
 * Seen is a guard only by the test that is there for it. Any other failure may be chance, and a file that fails as a
 * whole (it cannot be read, its cluster does not start) says nothing of the line.
 */
export function judge({ fails }: Pick<Guard, 'fails'>, results: Results): Verdict {
  const tests = results.testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = tests
    .filter(({ status }) => status === 'failed')
    .map(({ ancestorTitles, title }) => [...ancestorTitles, title].join(' '));
  if (failed.some((name) => name.includes(fails))) return { isSeen: true, failed };
  if (failed.length > 0) return { isSeen: false, why: `others failed, and not “${fails}”: ${failed.join('; ')}` };
  const files: readonly { status: string; message?: string }[] = results.testResults;
  const broken = files.find(({ status }) => status === 'failed');
  if (broken) return { isSeen: false, why: `the file failed as a whole: ${broken.message ?? ''}` };
  if (!tests.some(({ status }) => status === 'passed')) return { isSeen: false, why: 'no test was run' };
  return { isSeen: false, why: 'every test passed' };
}
