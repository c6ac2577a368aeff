// npm run test:guards [-- WORDS] [-- --unit]: takes each guarded line out of a copy of the source in turn, and runs the
// test that is there to miss it. A guard that no test misses is a failure. WORDS choose guards by their text; --unit those
// whose test needs no cluster.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Results } from '../cluster/runSuite.ts';
import { guards, type Guard } from './guards.ts';
import { judge, mistakesIn, type Verdict } from './judge.ts';

const MOST_MS = 180_000; // of a test that needs no cluster

const root = fileURLToPath(new URL('../../', import.meta.url));
const left = new Set(['node_modules', '.git', 'dist', 'coverage']);
const args = process.argv.slice(2);
const words = args.filter((arg) => !arg.startsWith('--'));
const chosen = guards
  .filter(({ what }) => words.every((word) => what.includes(word)))
  .filter((guard) => !args.includes('--unit') || !isOnCluster(guard));
const copy = mkdtempSync(join(tmpdir(), 'ecr-guards-'));
/** What is wrong with a test already with every line in its place. */
const baselines = new Map<string, string | null>();
let missed = 0;
try {
  cpSync(root, copy, { recursive: true, filter: (path) => !left.has(relative(root, path)) });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  for (const guard of chosen) {
    const verdict = verdictOn(guard);
    const told = verdict.isSeen ? verdict.failed.map((name) => `failed: ${name}`) : [verdict.why];
    console.log([`${verdict.isSeen ? 'seen    ' : 'NOT SEEN'} ${guard.what}`, guard.test, ...told].join('\n         '));
    if (!verdict.isSeen) missed += 1;
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`Guards: ${chosen.length - missed} seen, ${missed} not seen`);
process.exitCode = missed > 0 || chosen.length === 0 ? 1 : 0;

function verdictOn(guard: Guard): Verdict {
  const [mistake] = mistakesIn(guard, (path) =>
    existsSync(join(copy, path)) ? readFileSync(join(copy, path), 'utf8') : null,
  );
  if (mistake !== undefined) return { isSeen: false, why: mistake };
  const before = isOnCluster(guard) ? null : baselineOf(guard);
  if (before !== null) return { isSeen: false, why: `it fails with the line, too: ${before}` };
  return without(guard, () => judgedRun(guard));
}

/** Only where it is cheap: a cluster takes a minute. */
function baselineOf(guard: Guard): string | null {
  const key = `${guard.test} ${guard.named ?? ''}`;
  const known = baselines.get(key);
  if (known !== undefined) return known;
  const verdict = judgedRun(guard);
  const what = verdict.isSeen ? verdict.failed.join('; ') : verdict.why;
  const found = !verdict.isSeen && verdict.why === 'every test passed' ? null : what;
  baselines.set(key, found);
  return found;
}

function without<T>({ file, line, instead }: Guard, work: () => T): T {
  const path = join(copy, file);
  const source = readFileSync(path, 'utf8');
  writeFileSync(
    path,
    source.replace(line, () => instead),
  );
  try {
    return work();
  } finally {
    writeFileSync(path, source);
  }
}

function judgedRun(guard: Guard): Verdict {
  const file = join(copy, 'results.json');
  rmSync(file, { force: true });
  const env = { ...process.env, CLUSTER_RESULTS: file, FAULT_SEED: '1' };
  const { status, signal, stdout } = spawnSync(process.execPath, commandOf(guard, file), {
    ...{ cwd: copy, env, encoding: 'utf8', maxBuffer: 2 ** 28 },
    ...(!isOnCluster(guard) && { timeout: MOST_MS }),
  });
  if (signal !== null) return { isSeen: false, why: 'it did not end' };
  try {
    return judge(guard, JSON.parse(readFileSync(file, 'utf8')) as Results);
  } catch {
    return { isSeen: false, why: `there were no results (exit code ${status}):\n${stdout.slice(-2_000)}` };
  }
}

function commandOf({ test, named }: Guard, results: string): string[] {
  const filter = named === undefined ? [] : ['-t', named];
  const [, suite] = test.split('/');
  return isOnCluster({ test })
    ? ['--disable-warning=ExperimentalWarning', `test/${suite}/run.ts`, test, ...filter]
    : ['node_modules/vitest/vitest.mjs', 'run', test, ...filter, '--reporter=json', `--outputFile=${results}`];
}

function isOnCluster({ test }: Pick<Guard, 'test'>): boolean {
  return /^test\/(cluster|faults)\/\w+\.test\.ts$/.test(test);
}
