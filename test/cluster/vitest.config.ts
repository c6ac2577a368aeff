import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { longestFirst } from './longestFirst.ts';

// On a real control plane, two files at a time: most of the time they wait. `npm run test:cluster` runs it.
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('../../', import.meta.url)),
    include: ['test/cluster/**/*.test.ts'],
    globalSetup: 'test/cluster/globalSetup.ts',
    pool: 'forks',
    maxWorkers: 2,
    sequence: { sequencer: longestFirst('apiServer', 'image', 'pods', 'crd', 'replicas', 'fanOut') },
    testTimeout: 600_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    restoreMocks: true,
  },
});
