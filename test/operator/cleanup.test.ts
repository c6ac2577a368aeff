import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { startWorld, type World } from './world.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** `ecr-pull-secrets cleanup` as a process. */
function cleanup(w: World, ...flags: string[]): Promise<{ code: number | null; stderr: string }> {
  const args = ['--disable-warning=ExperimentalWarning', main, 'cleanup', `--kubeconfig=${w.sandbox.kubeconfigPath}`];
  const child = spawn(process.execPath, [...args, `--namespace=${w.sandbox.namespace}`, ...flags]);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stderr })));
}

it('what the API server refuses it is one line that names verb, object and user, and exit code 1', async () => {
  await using w = await startWorld();
  const { code, stderr } = await cleanup(w);
  expect(stderr).toMatch(/^ecr-pull-secrets: cannot patch deployments\/scale .*403.*\n$/);
  expect(code).toBe(1);
});

it('a wrong flag is one line and exit code 2', async () => {
  await using w = await startWorld();
  const { code, stderr } = await cleanup(w, '--timeout=soon');
  expect(stderr).toMatch(/^ecr-pull-secrets: --timeout: "soon": .*\n$/);
  expect(code).toBe(2);
});
