import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { crdTemplate } from './crdTemplate.ts';
import { referencePage } from './referencePage.ts';

// Writes what follows from the sources; with --check it only compares, and fails naming what is out of date.
// scripts/renderDeploy.ts, where it exists, renders deploy/ from the chart, so the chart's part comes first.

export interface GeneratedFile {
  readonly path: string; // from the root of the repository
  readonly text: string;
}

const root = fileURLToPath(new URL('..', import.meta.url));
const isCheck = process.argv.includes('--check');

const outdated = [
  ...(await handle([crdTemplate(), referencePage()])), //
  ...(await handle(await renderedDeploy())),
];
if (outdated.length > 0 && isCheck) {
  for (const path of outdated) console.error(`${path} is out of date: run \`npm run generate\``);
  process.exitCode = 1;
} else {
  for (const path of outdated) console.log(`written: ${path}`);
}

async function handle(files: readonly GeneratedFile[]): Promise<string[]> {
  const changed: string[] = [];
  for (const { path, text } of files) {
    const file = join(root, path);
    if ((await readFile(file, 'utf8').catch(() => null)) === text) continue;
    changed.push(path);
    if (isCheck) continue;
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }
  return changed;
}

async function renderedDeploy(): Promise<readonly GeneratedFile[]> {
  const script = new URL('renderDeploy.ts', import.meta.url);
  if (!existsSync(script)) return [];
  const { renderDeploy } = (await import(script.href)) as { renderDeploy: () => Promise<readonly GeneratedFile[]> };
  return await renderDeploy();
}
