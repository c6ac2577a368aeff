import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { leaks } from '../faults/oracles/secrecy.ts';
import { startWorld, type World } from './world.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const secretAccessKey = 'canary-secret-access-key-of-the-operator';

/**
 * The operator as a process that has served a namespace, and in which then something of this kind happens, with a token
 * and a key in its text; its exit code and all that it printed.
 */
async function crash(w: World, bug: string): Promise<{ code: number | null; output: string }> {
  const [file, trigger] = ['bug.mjs', 'trigger'].map((name) => join(w.sandbox.directory, name)) as [string, string];
  writeFileSync(file, bugIn(bug, trigger));
  const args = [
    ...['--disable-warning=ExperimentalWarning', `--import=${file}`, main],
    ...[`--kubeconfig=${w.sandbox.kubeconfigPath}`, `--namespace=${w.sandbox.namespace}`],
    ...['--metrics-bind-address=0', '--health-bind-address=0', '--log-level=debug'],
  ];
  const env = { PATH: process.env['PATH'], ...w.sandbox.env, AWS_SECRET_ACCESS_KEY: secretAccessKey };
  const child = spawn(process.execPath, args, { env });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  w.apply();
  await w.served('team-a');
  await writeFile(`${trigger}.new`, [secretAccessKey, ...w.sandbox.aws.tokens.secrets].join(' '));
  await rename(`${trigger}.new`, trigger);
  return { code: await ended, output };
}

/** A module that waits for a file, and then does this with its `text`. */
function bugIn(bug: string, trigger: string): string {
  return `
    import { existsSync, readFileSync } from 'node:fs';
    class Bug extends Error {}
    const timer = setInterval(() => {
      if (!existsSync(${JSON.stringify(trigger)})) return;
      clearInterval(timer);
      const text = readFileSync(${JSON.stringify(trigger)}, 'utf8');
      ${bug}
    }, 20);
    timer.unref();`;
}

it.concurrent.each([
  ['an exception', 'throw new Bug(text, { cause: text })'],
  ['a rejection that nobody handles', 'Promise.reject(Object.assign(new Bug(text), { token: text }))'],
  ['what is no error at all', 'throw text'],
])('%s ends it with 1, and no piece of a token or key is printed', async (_, bug) => {
  await using w = await startWorld();
  const { code, output } = await crash(w, bug);
  expect(code).toBe(1);
  expect(output).toMatch(/ecr-pull-secrets: unexpected (Error|string): this is a bug/);
  expect(w.sandbox.aws.tokens.all).toHaveLength(1);
  expect(leaks(new Map([['its output', output]]), [secretAccessKey, ...w.sandbox.aws.tokens.secrets])).toEqual([]);
});
