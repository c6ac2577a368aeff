import { isLong } from '../cluster/scaled.ts';
import { suiteConfig } from '../cluster/suiteConfig.ts';

// Each file has a control plane of its own, and all of them wait most of the time, in full even more so.
// `npm run test:faults` runs it.
export default suiteConfig({
  include: 'test/faults/*.test.ts',
  atOnce: isLong ? 4 : 3,
  first: ['mix', 'soak'],
});
