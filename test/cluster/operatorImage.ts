import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));
const caBundle = '/etc/ssl/certs/ca-certificates.crt';

/**
 * Builds the Dockerfile with buildah, without a registry: both of its base images are made of this machine's own node,
 * npm and shared libraries. Writes an archive as `docker save` does, named as the shipped Deployment wants it, into `again`
 * what a second build makes, and into `base` the plain Node below it, as localhost/node-base:1.
 */
export async function buildOperatorImage(o: {
  name: string;
  archive: string;
  again?: string;
  base?: string;
}): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'ecr-image-'));
  const buildah = (...args: string[]) =>
    run(
      'buildah',
      ['--root', join(scratch, 'root'), '--runroot', join(scratch, 'run'), '--storage-driver=vfs', ...args],
      {
        maxBuffer: 64 * 1024 * 1024,
      },
    );
  try {
    for (const { name, path, files } of [await buildBase(), await nodeBase()]) {
      const folder = join(scratch, name);
      for (const [from, to] of files) await copy(from, join(folder, to));
      if (name === 'build-base')
        symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(folder, 'usr/local/bin/npm'));
      await buildah('from', '--name', name, 'scratch');
      await buildah('copy', '--quiet', name, folder, '/');
      await buildah('config', '--env', `PATH=${path}`, '--env', `NODE_EXTRA_CA_CERTS=${caBundle}`, name);
      await buildah('commit', '--quiet', '--rm', name, `localhost/${name}`);
      rmSync(folder, { recursive: true });
    }
    const cache = join(homedir(), '.npm');
    const push = async (image: string, { archive, name }: { archive: string; name: string }) => {
      rmSync(archive, { force: true });
      await buildah('push', '--quiet', image, `docker-archive:${archive}:${name}`);
    };
    for (const archive of [o.archive, o.again]) {
      if (archive === undefined) continue;
      await buildah(
        ...['bud', '--quiet', '--isolation=chroot', '--network=host', '--layers=false', '--pull-never'],
        '--timestamp=0',
        ...['--build-arg=BUILD_IMAGE=localhost/build-base', '--build-arg=NODE_IMAGE=localhost/node-base'],
        ...(existsSync(cache) ? [`--volume=${cache}:/root/.npm`] : []),
        ...['--tag', o.name, root],
      );
      await push(o.name, { archive, name: o.name });
    }
    if (o.base) await push('localhost/node-base', { archive: o.base, name: 'localhost/node-base:1' });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

type Files = readonly (readonly [from: string, to: string])[];

interface Base {
  name: string;
  path: string; // PATH
  files: Files;
}

/** In the place of the official node image: a shell, node and npm. */
async function buildBase(): Promise<Base> {
  const npm = dirname(dirname(realpathSync((await run('sh', ['-c', 'command -v npm'])).stdout.trim())));
  const programs = [
    [process.execPath, '/usr/local/bin/node'],
    ['/bin/sh', '/bin/sh'],
    ['/usr/bin/env', '/usr/bin/env'],
  ] as const;
  const libraries = await Promise.all(programs.map(([program]) => librariesOf(program)));
  const files = [
    ...programs,
    ...libraries.flat(),
    ...certificates(),
    [npm, '/usr/local/lib/node_modules/npm'] as const,
  ];
  return { name: 'build-base', path: '/usr/local/bin:/usr/bin:/bin', files };
}

/** In the place of distroless' Node: the same path, and neither a shell nor anything else. */
async function nodeBase(): Promise<Base> {
  const files = [
    [process.execPath, '/nodejs/bin/node'] as const,
    ...(await librariesOf(process.execPath)),
    ...certificates(),
  ];
  return { name: 'node-base', path: '/nodejs/bin', files };
}

function certificates(): Files {
  return existsSync(caBundle) ? [[caBundle, caBundle]] : [];
}

/** The shared libraries and the loader, at the paths where the loader looks for them. */
async function librariesOf(program: string): Promise<Files> {
  const { stdout } = await run('ldd', [program]);
  const paths = stdout.split('\n').flatMap((line) => /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1] ?? []);
  return paths.map((path) => [path, path]);
}

async function copy(from: string, to: string): Promise<void> {
  mkdirSync(dirname(to), { recursive: true });
  await run('cp', ['--recursive', '--no-dereference', realpathSync(from), to]);
}

// `node test/cluster/operatorImage.ts FILE` builds ghcr.io/ecr-pull-secrets/ecr-pull-secrets:VERSION into FILE.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { default: manifest } = await import('../../package.json', { with: { type: 'json' } });
  const name = `ghcr.io/ecr-pull-secrets/ecr-pull-secrets:${manifest.version}`;
  const [archive = ''] = process.argv.slice(2);
  await buildOperatorImage({ name, archive });
  console.log(`${name}: ${archive}`);
}
