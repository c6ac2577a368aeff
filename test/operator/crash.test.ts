import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { startWorld, type World } from './world.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const canary = 'canary-secret-in-a-message';

/** The operator as a process in which something of this kind happens; its exit code and all that it printed. */
function crash(w: World, bug: string): Promise<{ code: number | null; output: string }> {
  const file = join(w.sandbox.directory, 'bug.mjs');
  writeFileSync(file, `class Bug extends Error {}; setTimeout(() => { ${bug} }, 300);`);
  const args = [
    ...['--disable-warning=ExperimentalWarning', `--import=${file}`, main],
    ...[`--kubeconfig=${w.sandbox.kubeconfigPath}`, `--namespace=${w.sandbox.namespace}`],
    ...['--metrics-bind-address=0', '--health-bind-address=0', '--log-level=debug'],
  ];
  const child = spawn(process.execPath, args, { env: { PATH: process.env['PATH'], ...w.sandbox.env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
}

it.each([
  ['an exception', `throw new Bug('${canary}', { cause: '${canary}' })`],
  ['a rejection that nobody handles', `Promise.reject(Object.assign(new Bug('${canary}'), { token: '${canary}' }))`],
  ['what is no error at all', `throw '${canary}'`],
])('%s ends it with 1, and nothing of its text is printed', async (_, bug) => {
  await using w = await startWorld();
  const { code, output } = await crash(w, bug);
  expect(code).toBe(1);
  expect(output).toMatch(/ecr-pull-secrets: unexpected (Error|string): this is a bug/);
  expect(output).not.toContain('canary');
});
