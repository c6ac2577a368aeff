import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { longestFirst } from '../cluster/longestFirst.ts';
import { isLong } from '../cluster/scaled.ts';

// Several files at a time: each has a control plane of its own, and all of them wait most of the time, in full even more
// so. `npm run test:faults` runs it.
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('../../', import.meta.url)),
    include: ['test/faults/*.test.ts'],
    globalSetup: 'test/cluster/globalSetup.ts',
    pool: 'forks',
    maxWorkers: isLong ? 4 : 3,
    sequence: { sequencer: longestFirst('mix', 'soak') },
    testTimeout: 600_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    restoreMocks: true,
  },
});
