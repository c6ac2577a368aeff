import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import manifest from '../package.json' with { type: 'json' };
import { bundle } from '../scripts/bundle.ts';
import { eventually } from './cluster/eventually.ts';
import { startWorld } from './operator/world.ts';

// What the image is made of, and how Node is started there. The image itself is built and looked into by
// test/cluster/image.test.ts.

const root = fileURLToPath(new URL('..', import.meta.url));
const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8').replaceAll(/\\\n\s*/g, '');
const lastStage = dockerfile.slice(dockerfile.lastIndexOf('\nFROM ') + 1);
const [, entrypoint = '[]'] = /^ENTRYPOINT (.*)$/m.exec(lastStage) ?? [];
const [program = '', ...command] = JSON.parse(entrypoint) as string[];
const imageFlags = command.slice(0, -1);
const startFlags = manifest.scripts.start.split(' ').slice(1, -1);

let scratch: string;
let out: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'ecr-bundle-'));
  out = join(scratch, 'one');
  await bundle(out);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const digests = (folder: string): [string, string][] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((file) => [
      file,
      createHash('sha256')
        .update(readFileSync(join(folder, file)))
        .digest('hex'),
    ]);

describe('the bundle', () => {
  it('has these files, and is the same, byte for byte, when it is built again', async () => {
    const other = join(scratch, 'two');
    await bundle(other);
    expect(digests(other)).toEqual(digests(out));
    expect(digests(out).map(([file]) => file)).toEqual([
      'ecr-pull-secrets.js',
      'ecr-pull-secrets.js.LEGAL.txt',
      'package.json',
    ]);
  });
});

describe('the Dockerfile', () => {
  it('runs nothing in the image, puts two things in, and leaves it to a user that is not root', () => {
    const words = [...lastStage.matchAll(/^([A-Z]+) (.*)$/gm)].map(([, word = '', rest = '']) => [word, rest] as const);
    const kinds = new Set(words.map(([word]) => word));
    expect([...kinds].sort()).toEqual(['ARG', 'COPY', 'ENTRYPOINT', 'ENV', 'FROM', 'LABEL', 'USER', 'WORKDIR']);
    expect(words.filter(([word]) => word === 'COPY').map(([, rest]) => rest)).toEqual([
      '--from=build /src/dist /app',
      'LICENSE /app/',
    ]);
    expect(words.filter(([word]) => word === 'USER')).toEqual([['USER', '65532:65532']]);
    // Neither a shell nor a package manager, and not root.
    expect(dockerfile).toMatch(/^ARG NODE_IMAGE=gcr\.io\/distroless\/nodejs24-debian12:nonroot$/m);
    expect(program).toBe('/nodejs/bin/node');
    expect(command.at(-1)).toBe('/app/ecr-pull-secrets.js');
  });

  it('installs by the lock, and runs no script of a package', () => {
    expect(dockerfile.match(/^RUN npm .*$/gm)).toEqual(['RUN npm ci --ignore-scripts --no-audit --no-fund']);
  });
});

describe.each([
  ['the image', imageFlags, () => join(out, 'ecr-pull-secrets.js')],
  ['the source tree', startFlags, () => join(root, 'src/main.ts')],
])('Node, as %s starts it', (_, flags, main) => {
  it("has no accessor that turns a key of somebody's JSON into a prototype", async () => {
    const script = 'console.log(Object.hasOwn(Object.prototype, "__proto__"), ({})["__proto__"])';
    expect(await run([...flags, '--eval', script])).toBe('false undefined\n');
  });

  it('opens no debugger when it is sent SIGUSR1, and the operator works on', async () => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    const args = [`--kubeconfig=${w.sandbox.kubeconfigPath}`, `--namespace=${w.sandbox.namespace}`];
    const addresses = ['--metrics-bind-address=127.0.0.1:0', '--health-bind-address=127.0.0.1:0'];
    using operator = started([...flags, '--inspect-port=0', main(), ...args, ...addresses], w.sandbox.env);
    w.apply();
    await w.served('team-a');
    operator.child.kill('SIGUSR1');
    await sleep(300);
    w.createNamespace('team-b');
    await w.served('team-b');
    expect(operator.output()).not.toMatch(/debugger|inspector/i);
  });
});

it('a Node without these flags does open one: the tests above can tell', async () => {
  using plain = started(['--inspect-port=0', '--eval', 'setInterval(() => {}, 1000); console.log("up")']);
  await eventually('it runs', () => plain.output().includes('up'));
  plain.child.kill('SIGUSR1');
  await eventually('it says so', () => plain.output().includes('Debugger'));
  expect(plain.output()).toMatch(/debugger|inspector/i);
});

function started(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { PATH = '' } = process.env;
  const child = spawn(process.execPath, args, { env: { PATH, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return { child, ended, output: () => output, [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

async function run(args: readonly string[]): Promise<string> {
  using one = started(args);
  await one.ended;
  return one.output();
}
