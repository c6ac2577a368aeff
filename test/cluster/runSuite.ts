import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { controlPlaneBinaries } from './binaries.ts';

/** vitest's results in JSON, as far as they are looked at. */
export interface Results {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: { name: string; status: string; startTime: number; endTime: number; assertionResults: Result[] }[];
}

interface Result {
  ancestorTitles: string[];
  title: string;
  duration?: number; // ms
  status: 'passed' | 'failed' | 'skipped' | 'pending' | 'todo';
}

const root = fileURLToPath(new URL('../../', import.meta.url));

export interface Suite {
  /** The folder of its tests and of its vitest.config.ts, from the root of the project. */
  folder: string;
  title: string;
  /** Of the command line: `--long`, and what vitest takes. */
  args: readonly string[];
  env?: Record<string, string>;
  /** Told at the end, where there are results. */
  onResults?: (results: Results) => void;
}

/**
 * Runs the tests of a folder on real clusters, with a line per file and one at the end; its exit code. CLUSTER_RESULTS
 * names a file for the results in vitest's JSON form.
 */
export async function runSuite(suite: Suite): Promise<number> {
  const bin = await controlPlaneBinaries();
  const isLong = suite.args.includes('--long');
  console.log(
    `Kubernetes from ${bin}; ${isLong ? 'long waits in full' : 'long waits shortened by ten (--long: in full)'}`,
  );
  const scratch = mkdtempSync(join(tmpdir(), 'ecr-cluster-run-'));
  try {
    const file = process.env['CLUSTER_RESULTS'] ?? join(scratch, 'results.json');
    rmSync(file, { force: true });
    const code = await vitest(suite, { isLong, results: file });
    return summary(suite, code, file);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function vitest(suite: Suite, { isLong, results }: { isLong: boolean; results: string }): Promise<number> {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const config = join(root, suite.folder, 'vitest.config.ts');
  const reporters = ['--reporter=verbose', '--reporter=json', `--outputFile.json=${results}`];
  const filters = suite.args.filter((arg) => arg !== '--' && arg !== '--long');
  const child = spawn(process.execPath, [vitest, 'run', '--config', config, ...reporters, ...filters], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...suite.env, CLUSTER_LONG: isLong ? '1' : '0' },
  });
  // Ctrl-C reaches vitest as well, which ends its workers; their clusters are ended by their keepers.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 130)));
}

function summary({ title, onResults }: Suite, code: number, file: string): number {
  let results: Results;
  try {
    results = JSON.parse(readFileSync(file, 'utf8')) as Results;
  } catch {
    console.log(`${title}: ended before there were results`);
    return code === 0 ? 1 : code;
  }
  for (const { name, status, startTime, endTime, assertionResults } of results.testResults) {
    const passed = assertionResults.filter((result) => result.status === 'passed').length;
    const seconds = ((endTime - startTime) / 1000).toFixed(1);
    const mark = status === 'passed' ? 'ok  ' : 'FAIL';
    console.log(`${mark} ${relative(root, name)}: ${passed} of ${assertionResults.length} in ${seconds} s`);
  }
  const { numPassedTests: passed, numFailedTests: failed } = results;
  const skipped = results.numPendingTests + results.numTodoTests;
  onResults?.(results);
  console.log(`${title}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  return code;
}
