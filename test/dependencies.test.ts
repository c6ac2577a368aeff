import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import manifest from '../package.json' with { type: 'json' };

// What `npm ci` brings, as the lock says it: nothing runs at installation, all of it is known by its hash, and what is
// shipped may be.

interface Locked {
  version?: string;
  integrity?: string;
  resolved?: string;
  link?: boolean;
  license?: string;
  dev?: boolean;
  optional?: boolean;
  devOptional?: boolean;
  hasInstallScript?: boolean;
  os?: string | string[];
  cpu?: string | string[];
  bin?: Record<string, string>;
}

const root = fileURLToPath(new URL('..', import.meta.url));
const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> };
const locked = Object.entries(lock.packages).filter(([path]) => path !== '');
const shipped = locked.filter(([, one]) => !one.dev && !one.devOptional && !one.optional);

/** Asks for nothing but that its text is kept, which ecr-pull-secrets.js.LEGAL.txt and the SBOM do. */
const allowed = new Set(['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT', 'PSF-2.0', 'Unlicense']);

describe('dependencies', () => {
  it('are from the registry, and known by their hash', () => {
    const unknown = locked.filter(([, { integrity = '', resolved = '', link }]) => {
      return !integrity.startsWith('sha512-') || link === true || /^(git|file|http:)/.test(resolved);
    });
    expect(unknown).toEqual([]);
  });

  it('need no script at installation: CI and the image install without, and one alone has one, which only saves time', () => {
    expect(locked.filter(([, one]) => one.hasInstallScript).map(([path]) => path)).toEqual(['node_modules/esbuild']);
    const installations = ['.ci/run', 'Dockerfile'].flatMap((file) =>
      [...readFileSync(join(root, file), 'utf8').matchAll(/npm ci\b.*/g)].map(([line]) => line),
    );
    expect(installations).toHaveLength(2);
    expect(installations.filter((line) => !line.includes('--ignore-scripts'))).toEqual([]);
  });

  it('bring a Node for each platform as a package, of one version, and not `node`, which fetches it by a script', () => {
    const platforms = Object.keys(manifest.optionalDependencies).map((name) => {
      const { os = [], cpu = [], bin, version, hasInstallScript } = lock.packages[`node_modules/${name}`] ?? {};
      expect({ name, bin, hasInstallScript }).toMatchObject({ bin: { node: expect.any(String) as string } });
      expect(hasInstallScript).toBeUndefined();
      return { platform: `${[os].flat().join()}-${[cpu].flat().join()}`, version };
    });
    expect(platforms.map(({ platform }) => platform)).toEqual([
      'darwin-arm64',
      'darwin-x64',
      'linux-arm64',
      'linux-x64',
      'win32-x64',
    ]);
    expect(new Set(platforms.map(({ version }) => version)).size).toBe(1);
    expect(lock.packages['node_modules/node']).toBeUndefined();
    if (process.platform === 'linux') expect(existsSync(join(root, 'node_modules/.bin/node'))).toBe(true);
  });

  it('that are shipped have licences that allow it, in the lock and in what is installed', () => {
    expect(shipped.length).toBeGreaterThan(50);
    const refused = shipped.filter(([, { license = 'none' }]) => !allowed.has(license));
    expect(refused.map(([path, { license }]) => `${path}: ${license}`)).toEqual([]);
    const others = shipped.filter(([path, { license }]) => {
      const installed = JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8')) as { license?: unknown };
      return installed.license !== license;
    });
    expect(others).toEqual([]);
  });
});
