import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// Like the cluster tests, one file at a time. `npm run test:faults` runs it.
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('../../', import.meta.url)),
    include: ['test/faults/*.test.ts'],
    globalSetup: 'test/cluster/globalSetup.ts',
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    restoreMocks: true,
  },
});
