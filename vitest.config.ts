import { defineConfig } from 'vitest/config';

// What needs no cluster. `npm run test:cluster` runs test/cluster on a real control plane.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/cluster/**', 'test/bench/**'],
    testTimeout: 20_000,
    restoreMocks: true,
  },
});
