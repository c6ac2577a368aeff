import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// Three files at a time: each has a control plane of its own, and all of them wait most of the time. `npm run test:faults`
// runs it.
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('../../', import.meta.url)),
    include: ['test/faults/*.test.ts'],
    globalSetup: 'test/cluster/globalSetup.ts',
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 600_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    restoreMocks: true,
  },
});
