import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build, type BuildOptions } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * One file with everything that runs, for the image: dist/ecr-pull-secrets.js, and beside it the licences of what is in
 * it. Names stay readable and lines short, as a bug is reported by its stack frames alone; comments and blanks go:
 * Node keeps the source in memory, and a single letter beyond Latin-1 in a comment doubles it.
 */
export async function bundle(outdir: string = join(root, 'dist'), more: BuildOptions = {}): Promise<number> {
  await rm(outdir, { recursive: true, force: true });
  await mkdir(outdir, { recursive: true });
  const outfile = join(outdir, 'ecr-pull-secrets.js');
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ['src/main.ts'],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    // The ES modules of a package are taken before its CommonJS: of the AWS SDK only what is used comes in.
    mainFields: ['module', 'main'],
    // CommonJS in the bundle calls require() for Node's own modules, which ES modules lack.
    banner: {
      js: "import { createRequire as bundleRequire } from 'node:module'; const require = bundleRequire(import.meta.url);",
    },
    minifyWhitespace: true,
    lineLimit: 120,
    legalComments: 'external',
    metafile: true,
    logLevel: 'warning',
    ...more,
  });
  // The folder stands alone in the image, where no other package.json says what its .js is.
  await writeFile(join(outdir, 'package.json'), '{ "type": "module" }\n');
  return Math.max(...Object.values(metafile?.outputs ?? {}).map(({ bytes }) => bytes));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const bytes = await bundle();
  console.log(`dist/ecr-pull-secrets.js: ${(bytes / 1024 / 1024).toFixed(1)} MiB`);
}
