// npm run test:cluster [-- --long] [-- --oldest] [-- FILES]: the tests on a real cluster. With --oldest those that need no
// node, on the oldest Kubernetes that is supported.

import { runSuite } from './runSuite.ts';

const needNode = ['chart', 'pods', 'pull'].map((name) => `test/cluster/${name}.test.ts`);

const args = process.argv.slice(2).filter((arg) => arg !== '--oldest');
if (process.argv.includes('--oldest')) {
  process.env['CLUSTER_KUBERNETES'] = 'oldest';
  args.push(...needNode.map((file) => `--exclude=${file}`));
  console.log(`left out, as they need a kubelet: ${needNode.join(', ')}`);
}
process.exitCode = await runSuite({ folder: 'test/cluster', title: 'Cluster tests', args });
