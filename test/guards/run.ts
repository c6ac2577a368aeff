// npm run test:guards [-- WORDS]: takes each guarded line out of a copy of the source in turn, and runs the test that is
// there to miss it. A guard that no test misses is a failure. WORDS choose guards by their text.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Results } from '../cluster/runSuite.ts';
import { guards, type Guard } from './guards.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const left = new Set(['node_modules', '.git', 'dist', 'coverage']);
const words = process.argv.slice(2).filter((arg) => arg !== '--');
const chosen = guards.filter(({ what }) => words.every((word) => what.includes(word)));
const copy = mkdtempSync(join(tmpdir(), 'ecr-guards-'));
const missed: Guard[] = [];
try {
  cpSync(root, copy, { recursive: true, filter: (path) => !left.has(relative(root, path)) });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  for (const guard of chosen) {
    const failed = failedWithout(guard);
    console.log(`${failed.length > 0 ? 'seen    ' : 'NOT SEEN'} ${guard.what}\n         ${guard.test}`);
    for (const name of failed) console.log(`         failed: ${name}`);
    if (failed.length === 0) missed.push(guard);
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`Guards: ${chosen.length - missed.length} seen, ${missed.length} not seen`);
process.exitCode = missed.length > 0 || chosen.length === 0 ? 1 : 0;

/** The tests that fail in a copy of the source without it. */
function failedWithout({ file, line, instead, test, named }: Guard): string[] {
  const path = join(copy, file);
  const source = readFileSync(path, 'utf8');
  if (source.split(line).length !== 2) throw new Error(`${file} does not have this once: ${line}`);
  writeFileSync(
    path,
    source.replace(line, () => instead),
  );
  try {
    return run(test, named);
  } finally {
    writeFileSync(path, source);
  }
}

function run(test: string, named: string | undefined): string[] {
  const results = join(copy, 'results.json');
  rmSync(results, { force: true });
  const [, suite = ''] = test.split('/');
  const isOnCluster = suite === 'cluster' || suite === 'faults';
  const filter = named === undefined ? [] : ['-t', named];
  const args = isOnCluster
    ? ['--disable-warning=ExperimentalWarning', `test/${suite}/run.ts`, test, ...filter]
    : ['node_modules/vitest/vitest.mjs', 'run', test, ...filter, '--reporter=json', `--outputFile=${results}`];
  const env = { ...process.env, CLUSTER_RESULTS: results, FAULT_SEED: '1' };
  const { status, stdout } = spawnSync(process.execPath, args, { cwd: copy, env, encoding: 'utf8' });
  let found: Results;
  try {
    found = JSON.parse(readFileSync(results, 'utf8')) as Results;
  } catch {
    throw new Error(`${test} gave no results (exit code ${status}):\n${stdout.slice(-2_000)}`);
  }
  if (found.numPassedTests + found.numFailedTests === 0 && status === 0)
    throw new Error(`${test}: no test is named so`);
  const tests = found.testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = tests.filter((one) => one.status === 'failed').map(({ title }) => title);
  // A hook that fails fails its file and no test of its own.
  return failed.length > 0 || status === 0 ? failed : ['(the file as a whole)'];
}
