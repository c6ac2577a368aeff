import { fileURLToPath } from 'node:url';
import { defineConfig, type ViteUserConfig } from 'vitest/config';
import { longestFirst } from './longestFirst.ts';

/** vitest's configuration of tests on real clusters: so many files at a time, of which these begin first. */
export function suiteConfig(o: { include: string; atOnce: number; first: readonly string[] }): ViteUserConfig {
  return defineConfig({
    test: {
      root: fileURLToPath(new URL('../../', import.meta.url)),
      include: [o.include],
      globalSetup: 'test/cluster/globalSetup.ts',
      pool: 'forks',
      maxWorkers: o.atOnce,
      sequence: { sequencer: longestFirst(...o.first) },
      testTimeout: 600_000,
      hookTimeout: 180_000,
      teardownTimeout: 60_000,
      restoreMocks: true,
    },
  });
}
