// npm run test:cluster [-- --long] [-- FILES]: the tests on a real cluster.

import { runSuite } from './runSuite.ts';

process.exitCode = await runSuite({
  folder: 'test/cluster',
  title: 'Cluster tests',
  args: process.argv.slice(2),
});
