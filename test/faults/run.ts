// npm run test:faults [-- --long] [-- --seed=N] [-- FILES]: the operator on bad nights, on a real control plane.

import { runSuite } from '../cluster/runSuite.ts';

const args = process.argv.slice(2);
const seed = args.find((arg) => arg.startsWith('--seed='))?.slice('--seed='.length) ?? String(Date.now() % 1_000_000);
console.log(`seed ${seed} (--seed=${seed} runs the same again)`);

process.exitCode = await runSuite({
  folder: 'test/faults',
  title: 'Fault tests',
  args: args.filter((arg) => !arg.startsWith('--seed=')),
  env: { FAULT_SEED: seed },
});
