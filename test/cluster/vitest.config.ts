import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// On a real control plane, one file at a time: two cores are what a cluster needs. `npm run test:cluster` runs it.
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('../../', import.meta.url)),
    include: ['test/cluster/**/*.test.ts'],
    globalSetup: 'test/cluster/globalSetup.ts',
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    restoreMocks: true,
  },
});
