import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildOperatorImage } from './operatorImage.ts';

// The image, built from the Dockerfile and looked into. Its base is made of this machine's Node; the one of a release is
// distroless' and pinned by its digest.

const name = 'localhost/operator:1';
let scratch: string;
let image: Unpacked;
let again: Unpacked;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'ecr-image-test-'));
  const archives = { archive: join(scratch, 'one.tar'), again: join(scratch, 'two.tar') };
  await buildOperatorImage({ name, ...archives });
  [image, again] = [unpack(archives.archive, 'one'), unpack(archives.again, 'two')];
}, 600_000);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Unpacked {
  readonly id: string; // of its configuration, which names the layers by their hashes
  readonly config: { User?: string; Entrypoint?: string[]; Cmd?: string[]; Env?: string[]; ExposedPorts?: object };
  readonly layers: readonly string[][]; // as tar lists them: mode, path
}

/** As `docker save` writes it. */
function unpack(archive: string, folder: string): Unpacked {
  const into = join(scratch, folder);
  mkdirSync(into);
  execFileSync('tar', ['--extract', '--file', archive, '--directory', into]);
  const read = (file: string): unknown => JSON.parse(readFileSync(join(into, file), 'utf8'));
  const [{ Config, Layers }] = read('manifest.json') as [{ Config: string; Layers: string[] }];
  const layers = Layers.map((layer) =>
    execFileSync('tar', ['--list', '--verbose', '--numeric-owner', '--file', join(into, layer)], { maxBuffer: 2 ** 26 })
      .toString()
      .trim()
      .split('\n')
      .map((line) => line.replace(/^(\S+) +(\S+) +\d+ \S+ \S+ /, '$1 $2 ')),
  );
  return { id: Config, layers, config: (read(Config) as { config: Unpacked['config'] }).config };
}

test('is the same, byte for byte, when it is built again', () => {
  expect(again.id).toBe(image.id);
  expect(again.layers).toEqual(image.layers);
});

test('adds these files to its base, readable by everybody and written by nobody but root', () => {
  expect(image.layers.at(-1)).toEqual([
    'drwxr-xr-x 0/0 app/',
    '-rw-r--r-- 0/0 app/LICENSE',
    '-rwxr-xr-x 0/0 app/ecr-pull-secrets.js',
    '-rw-r--r-- 0/0 app/ecr-pull-secrets.js.LEGAL.txt',
    '-rw-r--r-- 0/0 app/package.json',
  ]);
});

test('is not run as root, has no command but its own, and opens no port by itself', () => {
  expect(image.config).toMatchObject({ User: '65532:65532' });
  expect(image.config.Entrypoint?.[0]).toBe('/nodejs/bin/node');
  expect(image.config.Entrypoint).toEqual(expect.arrayContaining(['--disable-sigusr1', '--disable-proto=delete']));
  expect(image.config.Cmd ?? []).toEqual([]);
  expect(image.config.ExposedPorts).toBeUndefined();
});

describe('holds neither', () => {
  const programs: [what: string, names: RegExp][] = [
    ['a shell', /^(ba|da|a|z|k|c|tc|fi)?sh$|^busybox$|^toybox$/],
    ['a package manager', /^(apt(-get)?|dpkg|apk|rpm|yum|dnf|npm|npx|yarn|pnpm|corepack|pip3?)$/],
    ['what fetches', /^(curl|wget|nc|ncat|netcat|ssh|scp|ftp)$/],
    ['another interpreter', /^(python[\d.]*|perl[\d.]*|ruby|lua|gdb|strace)$/],
  ];
  test.each(programs)('%s', (_, names) => {
    const files = image.layers.flat().map((line) => line.split(' ').slice(2).join(' '));
    expect(files.length).toBeGreaterThan(8);
    expect(files.filter((file) => names.test(file.split('/').at(-1) ?? ''))).toEqual([]);
  });

  test('a program that gives rights', () => {
    expect(image.layers.flat().filter((line) => /^\S*[sS]/.test(line.slice(0, 10)))).toEqual([]);
  });
});
