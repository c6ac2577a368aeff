import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseSpec } from '../src/api/clusterEcrPullSecret.ts';
import { kind } from '../src/api/groupVersion.ts';
import { Metrics } from '../src/observability/metrics.ts';

// What the docs say is there, is there.

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`),
  'test/cluster/README.md',
  'charts/ecr-pull-secrets/README.md',
];

/** As GitHub makes them of headings. */
function anchorsOf(text: string): Set<string> {
  const headings = text.matchAll(/^#+ (.+)$/gm);
  return new Set(
    [...headings].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replaceAll(' ', '-'),
    ),
  );
}

/** The code of fenced blocks of a language. */
function blocks(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w*)\n([^]*?)^```/gm)].flatMap(([, found, code = '']) =>
    found === language ? [code] : [],
  );
}

describe.each(pages)('%s', (page) => {
  const text = read(page);

  it('links to what is there', () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)];
    const broken = links.flatMap(([link, path = '', anchor]) => {
      const file = path === '' ? page : join(dirname(page), path);
      if (!existsSync(join(root, file))) return [link];
      return anchor !== undefined && !anchorsOf(read(file)).has(anchor) ? [link] : [];
    });
    expect(broken).toEqual([]);
  });

  it('shows resources that the API server would take', () => {
    const heredocs = [...text.matchAll(/<<'?(\w+)'?\n([^]*?)^\1$/gm)].map(([, , body = '']) => body);
    const documents = [...blocks(text, 'yaml'), ...heredocs].flatMap((code) => parseAllDocuments(code));
    const resources = documents.map((document) => document.toJS() as { kind?: string; spec?: unknown } | null);
    const refused = resources.flatMap((resource) => {
      if (resource?.kind !== kind) return [];
      const parsed = parseSpec(resource.spec);
      return 'errors' in parsed ? [JSON.stringify(parsed.errors)] : [];
    });
    expect(refused).toEqual([]);
  });

  it('names metrics that there are', async () => {
    const metrics = new Metrics();
    const known = new Set((await metrics.registry.getMetricsAsJSON()).map(({ name }) => name));
    const named = new Set([...text.matchAll(/\becr_pull_secrets_\w+/g)].map(([name]) => name));
    expect([...named].filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('each threat of the security model', () => {
  const [, threats = ''] =
    /## Threats, and the test that holds each\n([^]*?)\n## /.exec(read('docs/security.md')) ?? [];
  const rows = [...threats.matchAll(/^\| (?!Threat|---)(.*) \|$/gm)].map(([, row = '']) => row.split(' | '));

  it('names what holds it, and a test that there is', () => {
    expect(rows.length).toBeGreaterThan(25);
    const missing = rows.filter(([threat, guard, test = '']) => {
      const [, file = '', title = ''] = /^`(test\/[\w/]+\.test\.ts)`: (.+)$/.exec(test) ?? [];
      return !threat || !guard || title === '' || !titlesIn(file).some((one) => one.includes(title));
    });
    expect(missing).toEqual([]);
  });
});

function titlesIn(file: string): string[] {
  return existsSync(join(root, file)) ? titlesOf(read(file)) : [];
}

/**
 * Texts that are followed by a comma: the titles of tests are among them. None where any test is skipped for good or alone
 * is run: what a page hangs on is never only there to be seen.
 */
function titlesOf(text: string): string[] {
  const code = text.replaceAll(/^\s*\/\/.*$/gm, '');
  if (/\b(?:it|test|describe)(?:\.\w+)*\.(?:skip|todo|fails|only)\b/.test(code)) return [];
  return [...code.matchAll(/(['"`])((?:\\.|(?!\1)[^\n\\])*)\1,/g)].map(([, , title = '']) =>
    title.replaceAll(/\\(.)/g, '$1'),
  );
}

it('a test that is skipped holds nothing', () => {
  expect(titlesOf("test('holds', () => {});")).toEqual(['holds']);
  expect(titlesOf("test.skipIf(whyNot !== null)('holds', () => {});")).toEqual(['holds']);
  const not = [
    "test.skip('holds',",
    "describe.skip.each(all)('holds',",
    "it.concurrent.skip('holds',",
    "// it('holds',",
  ];
  for (const text of [...not, "it.todo('holds',", "it.only('other',\n  it('holds',"])
    expect(titlesOf(text)).toEqual([]);
});

describe('the values of the chart', () => {
  const schema = JSON.parse(read('charts/ecr-pull-secrets/values.schema.json')) as Schema;
  const install = read('docs/install.md');
  const table = /## Values of the chart\n([^]*?)\n## /.exec(install)?.[1] ?? '';
  const named = [...table.matchAll(/^\| (`[^|]+`) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, path = '']) => path),
  );

  it('are all explained', () => {
    const [values] = parseAllDocuments(read('charts/ecr-pull-secrets/values.yaml'));
    const paths = Object.keys(values?.toJS() as object);
    expect(paths.filter((path) => !named.some((name) => name === path || name.startsWith(`${path}.`)))).toEqual([]);
  });

  it('exist where the docs name them', () => {
    const set = [install, read('README.md')].flatMap((text) =>
      [...text.matchAll(/--set '?([\w.]+)=/g)].map(([, path = '']) => path),
    );
    const snippets = blocks(install, 'yaml').flatMap((code) => {
      const [document] = parseAllDocuments(code);
      const value = document?.toJS() as Record<string, unknown> | unknown[] | null;
      return value !== null && !Array.isArray(value) && typeof value === 'object' && 'env' in value
        ? Object.keys(value)
        : [];
    });
    expect(snippets.length).toBeGreaterThan(3);
    expect([...named, ...set, ...snippets].filter((path) => !isIn(schema, path.split('.')))).toEqual([]);
  });
});

interface Schema {
  properties?: Record<string, Schema>;
}

function isIn(schema: Schema | undefined, [first, ...rest]: readonly string[]): boolean {
  if (first === undefined || schema?.properties === undefined) return schema !== undefined;
  return first in schema.properties && isIn(schema.properties[first], rest);
}

it('a release can be built again: its files have the time of its commit', () => {
  const text = read('.github/workflows/release.yml');
  expect(text).toMatch(/SOURCE_DATE_EPOCH=\$\(git log -1 --format=%ct\)" \| tee -a "\$GITHUB_ENV"/);
  expect(text).toMatch(/outputs: .*\brewrite-timestamp=true\b/);
});

describe.each(readdirSync(join(root, '.github/workflows')))('the workflow %s', (name) => {
  const text = read(`.github/workflows/${name}`);
  const [document] = parseAllDocuments(text);
  const workflow = document?.toJS() as { permissions?: unknown; jobs: Record<string, { 'timeout-minutes'?: number }> };

  it('is YAML, may read only unless a job says more, and has an end', () => {
    expect(document?.errors).toEqual([]);
    expect(workflow.permissions).toEqual({ contents: 'read' });
    expect(Object.values(workflow.jobs).every((job) => job['timeout-minutes'] !== undefined)).toBe(true);
  });

  it('pins every action by its commit', () => {
    const uses = [...text.matchAll(/uses: (\S+)(.*)$/gm)];
    expect(uses.filter(([, action = '', rest = '']) => !/@[0-9a-f]{40}$/.test(action) || !/# v\d/.test(rest))).toEqual(
      [],
    );
  });

  it('names files and scripts that there are', () => {
    const files = [...text.matchAll(/(?:\.ci\/run|deploy\/install\.yaml|charts\/[\w-]+(?=[ \n/]))/g)].map(
      ([file]) => file,
    );
    expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
  });
});
