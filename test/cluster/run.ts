// npm run test:cluster [-- --long] [-- FILES]: the tests on a real cluster, a line per file and one at the end.
// CLUSTER_RESULTS names a file for the results in vitest's JSON form.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { controlPlaneBinaries } from './binaries.ts';

interface Results {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: { name: string; status: string; startTime: number; endTime: number; assertionResults: Result[] }[];
}

interface Result {
  status: 'passed' | 'failed' | 'skipped' | 'pending' | 'todo';
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const args = process.argv.slice(2).filter((arg) => arg !== '--');
const isLong = args.includes('--long');
const filters = args.filter((arg) => arg !== '--long');
process.exitCode = await main();

async function main(): Promise<number> {
  const bin = await controlPlaneBinaries();
  console.log(
    `Kubernetes from ${bin}; ${isLong ? 'long waits in full' : 'long waits shortened by ten (--long: in full)'}`,
  );
  const scratch = mkdtempSync(join(tmpdir(), 'ecr-cluster-run-'));
  try {
    const file = process.env['CLUSTER_RESULTS'] ?? join(scratch, 'results.json');
    rmSync(file, { force: true });
    const code = await vitest(file);
    return summary(code, file);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function vitest(results: string): Promise<number> {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const config = join(root, 'test/cluster/vitest.config.ts');
  const reporters = ['--reporter=verbose', '--reporter=json', `--outputFile.json=${results}`];
  const child = spawn(process.execPath, [vitest, 'run', '--config', config, ...reporters, ...filters], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, CLUSTER_LONG: isLong ? '1' : '0' },
  });
  // Ctrl-C reaches vitest as well, which ends its workers; their clusters are ended by their keepers.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 130)));
}

function summary(code: number, file: string): number {
  let results: Results;
  try {
    results = JSON.parse(readFileSync(file, 'utf8')) as Results;
  } catch {
    console.log('Cluster tests: ended before there were results');
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
  console.log(`Cluster tests: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  return code;
}
