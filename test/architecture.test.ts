import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

// What each part of src may import, besides its own folder. `type X` may be imported with `import type` only;
// `X: name` for these names only.
const table = new Map<string, readonly string[]>([
  ['errors', []],
  ['clock', []],
  ['version', ['package.json']],
  ['flags', ['zod', 'errors', 'node:util']],
  ['options', ['zod', 'flags', 'node:process']],
  ['main', ['errors', 'options', 'version', 'cli']],
  ['api', ['zod']],
  ['core', ['api', 'errors', 'type clock', 'cron: CronTime', 'node:crypto: createHash']],
  [
    'aws',
    [
      '@aws-sdk/*',
      '@smithy/node-http-handler',
      'node:https',
      'node:stream',
      'node:crypto: createHash',
      'undici',
      'core',
      'errors',
      'clock',
      'type api',
      'type observability',
    ],
  ],
  ['kube', ['type @kubernetes/client-node*', 'undici', 'node:*', 'errors', 'clock', 'type observability']],
  ['observability', ['pino', 'prom-client', 'errors', 'clock', 'node:http', 'type node:net']],
  ['controller', ['node:*', 'undici', 'api', 'core', 'aws', 'kube', 'errors', 'clock', 'type observability']],
  ['cli', ['*']],
]);

// Single files that may import more than their folder: what reads a kubeconfig has client-node's parts for it.
const exceptions = new Map<string, readonly string[]>([
  ['kube/connection.ts', ['@kubernetes/client-node/*']],
  ['kube/kubeconfig.ts', ['@kubernetes/client-node/*', 'js-yaml: load']],
]);

interface Import {
  readonly file: string; // from src
  readonly from: string; // a part of src, a package, or package.json
  readonly target: string | null; // the file in src
  readonly isType: boolean;
  readonly names: readonly string[];
}

const src = fileURLToPath(new URL('../src', import.meta.url));
const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .sort();
const textOf = (file: string): string => readFileSync(join(src, file), 'utf8');
const imports = files.flatMap(importsOf);

describe('every import is one that the table allows', () => {
  it.each(files)('%s', (file) => {
    const allowed = [...(table.get(partOf(file)) ?? []), ...(exceptions.get(file) ?? [])];
    const refused = imports.filter(
      (one) => one.file === file && one.from !== partOf(file) && !allowed.some((rule) => allows(rule, one)),
    );
    expect(refused.map(({ from, isType, names }) => `${isType ? 'type ' : ''}${from}: ${names.join(', ')}`)).toEqual(
      [],
    );
  });

  it('for every part there is a row', () => {
    expect([...new Set(files.map(partOf))].filter((part) => !table.has(part))).toEqual([]);
  });
});

it('there are no cycles', () => {
  const edges = Map.groupBy(
    imports.filter(({ target, isType }) => target !== null && !isType),
    ({ file }) => file,
  );
  const done = new Set<string>();
  const findCycle = (file: string, path: readonly string[]): readonly string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const { target } of edges.get(file) ?? []) {
      const cycle = target === null ? null : findCycle(target, [...path, file]);
      if (cycle) return cycle;
    }
    done.add(file);
    return null;
  };
  expect(files.map((file) => findCycle(file, [])).filter((cycle) => cycle !== null)).toEqual([]);
});

it('every package is a dependency of the manifest, not one of another package', () => {
  const { dependencies } = JSON.parse(readFileSync(join(src, '../package.json'), 'utf8')) as { dependencies: object };
  const packages = imports
    .filter(({ from, target }) => target === null && from !== 'package.json' && !from.startsWith('node:'))
    .map(({ from }) => /^(?:@[^/]+\/)?[^/]+/.exec(from)?.[0] ?? from);
  expect([...new Set(packages)].filter((name) => !Object.hasOwn(dependencies, name))).toEqual([]);
});

it.each([
  ['hands on all of another (a barrel)', /^export \*/m],
  ['has a default export', /^export default\b/m],
])('no file %s', (_, pattern) => {
  expect(files.filter((file) => pattern.test(textOf(file)))).toEqual([]);
});

it('every file but main.ts exports something of its own', () => {
  const own = /^export (?:async )?(?:abstract )?(?:const|function|class|interface|type \w)/m;
  expect(files.filter((file) => !own.test(textOf(file)))).toEqual(['main.ts']);
});

it('only options.ts reads the environment', () => {
  expect(files.filter((file) => /process\.env\b/.test(textOf(file)))).toEqual([]);
  expect(files.filter((file) => /import \{[^}]*\benv\b[^}]*\} from 'node:process'/.test(textOf(file)))).toEqual([
    'options.ts',
  ]);
});

it('the pure core has no clock, no timers and no chance of its own', () => {
  const impure =
    /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\b|\bsetTimeout\b|\bsetInterval\b|\bperformance\.|\bfetch\(/;
  expect(files.filter((file) => partOf(file) === 'core' && impure.test(textOf(file)))).toEqual([]);
});

it('no file is a drawer', () => {
  expect(files.filter((file) => /(util|helper|common|manager|misc)s?\b/i.test(file))).toEqual([]);
});

function partOf(file: string): string {
  return (file.split('/')[0] ?? '').replace(/\.ts$/, '');
}

function importsOf(file: string): Import[] {
  const text = textOf(file);
  const statements = text.matchAll(/^(?:import|export)\s+(type\s)?([^;'=]*?)\s*from\s+'([^']+)'/gm);
  const bare = text.matchAll(/^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm);
  return [
    ...[...statements].map(([, type, names = '', from = '']) =>
      importOf(file, { from, names, isType: type !== undefined }),
    ),
    ...[...bare].map(([, at, dynamic]) => importOf(file, { from: at ?? dynamic ?? '', names: '', isType: false })),
  ];
}

function importOf(file: string, { from, names, isType }: { from: string; names: string; isType: boolean }): Import {
  const listed = names
    .replaceAll(/[{}]/g, '')
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  if (!from.startsWith('.')) return { file, from, target: null, isType, names: listed };
  const target = relative(src, resolve(src, file, '..', from));
  const isInside = !target.startsWith('..');
  return {
    file,
    from: isInside ? partOf(target) : target.slice(3),
    target: isInside ? target : null,
    isType,
    names: listed,
  };
}

function allows(rule: string, { from, isType, names }: Import): boolean {
  const [, typeOnly, pattern = '', , only] = /^(type )?([^ ]+?)(: (.+))?$/.exec(rule) ?? [];
  if (typeOnly !== undefined && !isType) return false;
  if (only !== undefined && names.some((name) => name !== only)) return false;
  return pattern.endsWith('*') ? from.startsWith(pattern.slice(0, -1)) : from === pattern;
}
