import { defineConfig } from 'vitest/config';

// What needs no cluster. `npm run test:cluster` and `npm run test:faults` run the others on a real control plane.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/cluster/**', 'test/bench/**', 'test/faults/*.test.ts'],
    globalSetup: 'test/temporaryFolder.ts',
    testTimeout: 20_000,
    // Most of the time is spent waiting for servers: more files at once than there are cores.
    maxWorkers: 3,
    // The SDKs are loaded once in each of them: a quarter of the time.
    isolate: false,
    pool: 'threads',
    restoreMocks: true,
  },
});
