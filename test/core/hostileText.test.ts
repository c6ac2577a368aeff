import { describe, expect, it } from 'vitest';
import { annotations, fieldManager } from '../../src/api/groupVersion.ts';
import { reduceSecret } from '../../src/controller/observedObjects.ts';
import { diffNamespace } from '../../src/core/diffNamespace.ts';
import { parseDockerConfigJson } from '../../src/core/dockerConfig.ts';
import { matchesGlob, matchesName } from '../../src/core/glob.ts';
import { planNamespace } from '../../src/core/planNamespace.ts';
import { memoryGrowth, quickest } from '../memoryGrowth.ts';
import { after, namespace, observed, resource, resources, SECRET, serviceAccount, usable } from './namespaceWorld.ts';

// Text that is made to keep the operator busy, or to fill its memory. Whoever may edit a pull secret writes its
// annotations, and the API server takes 256 KiB of them.

const MOST_MS = 50;
const MOST_BYTES = 20 * 1024 * 1024;
const ANNOTATIONS_BYTES = 256 * 1024;

/** As many as there is room for, none like another. */
function fill(make: (i: number) => string): string {
  const items: string[] = [];
  for (let size = 0, i = 0; size < ANNOTATIONS_BYTES - 300; i++) {
    const item = make(i);
    size += item.length + 1;
    items.push(item);
  }
  return items.join(',');
}

const name = 'a'.repeat(253);
const worst: readonly [what: string, glob: string][] = [
  ['stars and letters in turn', `${'*a'.repeat(13)}*b`],
  ['as many of them as there may be', `${'*a'.repeat(125)}*b`],
  ['stars alone', '*'.repeat(253)],
  ['half of the name, and one letter more', `*${'a'.repeat(126)}b*`],
  ['another letter in its middle', `*${'a'.repeat(63)}b${'a'.repeat(63)}*`],
  ['another letter in front', `*b${'a'.repeat(125)}*`],
  ['short parts', '*ab*'],
];

describe('globs', () => {
  it.each(worst)('of %s are matched with a long name a thousand times within 50 ms', (_, glob) => {
    const match = (): void => {
      for (let i = 0; i < 1_000; i++) matchesGlob(glob, name);
    };
    expect(quickest(match)).toBeLessThan(MOST_MS);
  });

  it('of the largest spec with the worst of them are matched with a name within 50 ms', () => {
    const globs = Array.from({ length: 100 }, (_, i) => worst[i % worst.length]?.[1] ?? '');
    expect(
      quickest(() => matchesName({ names: globs.filter((g) => g !== '*'.repeat(253)), exclude: globs }, name)),
    ).toBeLessThan(MOST_MS);
  });
});

const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
const deep = '['.repeat(ANNOTATIONS_BYTES / 2) + ']'.repeat(ANNOTATIONS_BYTES / 2);
const set = (...names: string[]): string => JSON.stringify({ names, exclude: [] });
const hostile: readonly [what: string, hosts: string, patterns: string][] = [
  ...worst.map(([what, glob]): [string, string, string] => [
    `patterns of ${what}`,
    '{}',
    `[{"exclude":[],"names":[${fill(() => JSON.stringify(glob))}]}]`,
  ]),
  ['a set for each pattern', '{}', `[${fill(() => set('*ab*'))}]`],
  ['sets of nothing', '{}', `[${fill(() => '{"names":[],"exclude":[]}')}]`],
  ['patterns that are longer than names', '{}', `[${set(`${'*ab'.repeat(ANNOTATIONS_BYTES / 3)}*`)}]`],
  ['lists in lists', deep, deep],
  ['objects in objects', '{"a":'.repeat(ANNOTATIONS_BYTES / 5), `[${'{"names":'.repeat(ANNOTATIONS_BYTES / 9)}`],
  ['thousands of hosts', `{${fill((i) => `"${i}":""`)}}`, '[]'],
  ['one host again and again', `{${fill(() => `"${host}":""`)}}`, '[]'],
  ['a hash without end', JSON.stringify({ [host]: 'f'.repeat(ANNOTATIONS_BYTES) }), '[]'],
  ['a number without end', `{"${host}":${'9'.repeat(ANNOTATIONS_BYTES)}}`, '9'.repeat(ANNOTATIONS_BYTES)],
  ['blanks', ' '.repeat(ANNOTATIONS_BYTES), ' '.repeat(ANNOTATIONS_BYTES)],
];

describe('the annotations of a pull secret, filled to the limit of the API server with', () => {
  const serviceAccounts = Array.from({ length: 10 }, (_, i) => serviceAccount(`${'a'.repeat(252)}${i}`, [SECRET]));
  const run = (hosts: string, patterns: string, isRemoved: boolean) => {
    const marks = { [annotations.hosts]: hosts, [annotations.serviceAccounts]: patterns };
    const managedFields = [{ manager: fieldManager, operation: 'Apply' }];
    const secret = reduceSecret({ metadata: { name: SECRET, annotations: marks, managedFields } });
    const world = isRemoved ? resources() : resources(resource());
    const plan = planNamespace(namespace(), world, () => usable('t1'));
    return diffNamespace(plan, observed({ secret, serviceAccounts }), { secretName: SECRET, mayRemove: true });
  };

  it.each(hostile)(
    '%s: read and compared within 50 ms and 20 MB, and repaired or removed',
    async (_, hosts, patterns) => {
      expect(quickest(() => run(hosts, patterns, false))).toBeLessThan(MOST_MS);
      expect(quickest(() => run(hosts, patterns, true))).toBeLessThan(MOST_MS);
      expect(await memoryGrowth(() => run(hosts, patterns, false))).toBeLessThan(MOST_BYTES);
      expect(run(hosts, patterns, false).writes[0]).toMatchObject({ kind: 'ApplySecret' });
      expect(run(hosts, patterns, true).writes.at(-1)).toMatchObject({ kind: 'DeleteSecret' });
    },
  );
});

const DATA_BYTES = 2 ** 20;
const full = (make: (i: number) => string, open: string, close: string): string => {
  const items: string[] = [];
  for (let size = 100, i = 0; size < DATA_BYTES - 100; i++) {
    const item = make(i);
    size += item.length + 1;
    items.push(item);
  }
  return `${open}${items.join(',')}${close}`;
};

describe('the document of a pull secret, filled to the limit of the API server with', () => {
  it.each<[string, string]>([
    ['lists in lists', '['.repeat(DATA_BYTES / 2) + ']'.repeat(DATA_BYTES / 2)],
    ['objects in objects', '{"auths":'.repeat(DATA_BYTES / 9)],
    ['lists in lists, as an entry', `{"auths":{"${host}":${'['.repeat(2 ** 18)}${']'.repeat(2 ** 18)}}}`],
    ['hosts', full((i) => `"${i}":{"auth":""}`, '{"auths":{', '}}')],
    ['hosts that are numbers', full((i) => `"${i * 7919}":1`, '{"auths":{', '}}')],
    ['one host again and again', full(() => `"${host}":{"auth":"x"}`, '{"auths":{', '}}')],
    ['keys of every object', full(() => '"__proto__":{"auth":"x"},"constructor":{"auth":"x"}', '{"auths":{', '}}')],
    ['keys within an entry', full((i) => `"${i}":0`, `{"auths":{"${host}":{`, '}}}')],
    ['a list for hosts', full(() => '{"auth":"x"}', '{"auths":[', ']}')],
    ['a text for hosts', JSON.stringify({ auths: 'x'.repeat(DATA_BYTES) })],
    ['one token', JSON.stringify({ auths: { [host]: { auth: 'x'.repeat(DATA_BYTES) } } })],
    ['a number without end', `{"auths":${'9'.repeat(DATA_BYTES)}}`],
    ['blanks', ' '.repeat(DATA_BYTES)],
    ['escapes', `{"auths":{"${'\\u0000'.repeat(DATA_BYTES / 6)}":{"auth":"x"}}}`],
  ])('%s: read within 50 ms and 20 MB', async (_, text) => {
    const read = () => parseDockerConfigJson(text);
    expect(quickest(read)).toBeLessThan(MOST_MS);
    expect(await memoryGrowth(read)).toBeLessThan(MOST_BYTES);
  });
});

it('more patterns than are recorded are written once, not for ever', () => {
  const globs = (letter: string): string[] => Array.from({ length: 100 }, (_, i) => `${letter}-${i}-*`);
  const many = 'abcdefghij'
    .split('')
    .map((letter) =>
      resource({ name: letter, serviceAccounts: { names: globs(letter), exclude: globs(`not-${letter}`) } }),
    );
  const plan = planNamespace(namespace(), resources(...many), () => usable('t1'));
  const options = { secretName: SECRET, mayRemove: true };
  const serviceAccounts = [serviceAccount('j-1-x', [])];
  const first = diffNamespace(plan, observed({ serviceAccounts }), options);
  expect(first.writes.map(({ kind }) => kind)).toEqual(['ApplySecret', 'AddEntry']);
  const then = after(observed({ serviceAccounts }), first.writes);
  // As it comes back from the API server.
  const marks = {
    [annotations.hosts]: JSON.stringify(Object.fromEntries(then.secret?.hosts ?? [])),
    [annotations.serviceAccounts]: JSON.stringify(then.secret?.patterns),
  };
  const read = reduceSecret({ metadata: { name: SECRET, annotations: marks } });
  const secret = { ...read, isOurs: true, isIntact: true };
  expect(diffNamespace(plan, { ...then, secret }, options).writes).toEqual([]);
});
