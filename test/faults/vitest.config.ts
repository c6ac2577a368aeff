import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { isLong } from '../cluster/scaled.ts';

/** Those that take an hour in full begin first: what comes after them would be waited for at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isEndless = ({ moduleId }: TestSpecification) => ['mix.test.ts', 'soak.test.ts'].includes(basename(moduleId));
    const sorted = await super.sort(files);
    return [...sorted.filter(isEndless), ...sorted.filter((file) => !isEndless(file))];
  }
}

// Several files at a time: each has a control plane of its own, and all of them wait most of the time, in full even more
// so. `npm run test:faults` runs it.
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('../../', import.meta.url)),
    include: ['test/faults/*.test.ts'],
    globalSetup: 'test/cluster/globalSetup.ts',
    pool: 'forks',
    maxWorkers: isLong ? 4 : 3,
    sequence: { sequencer: LongestFirst },
    testTimeout: 600_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    restoreMocks: true,
  },
});
