import { suiteConfig } from './suiteConfig.ts';

// Two files at a time: most of the time they wait. `npm run test:cluster` runs it.
export default suiteConfig({
  include: 'test/cluster/**/*.test.ts',
  atOnce: 2,
  first: ['apiServer', 'image', 'pods', 'crd', 'replicas', 'fanOut'],
});
