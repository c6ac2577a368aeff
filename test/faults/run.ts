// npm run test:faults [-- --long] [-- --oldest] [-- --seed=N] [-- --report] [-- FILES]: the operator on bad nights, on a
// real control plane, with --oldest of the oldest Kubernetes that is supported. With --report the results become
// docs/reliability.md.

import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { runSuite, type Results } from '../cluster/runSuite.ts';
import { reliabilityPage } from './report.ts';

const page = fileURLToPath(new URL('../../docs/reliability.md', import.meta.url));
const args = process.argv.slice(2);
if (args.includes('--oldest')) process.env['CLUSTER_KUBERNETES'] = 'oldest';
const seed = args.find((arg) => arg.startsWith('--seed='))?.slice('--seed='.length) ?? String(Date.now() % 1_000_000);
console.log(`seed ${seed} (--seed=${seed} runs the same again)`);

let results: Results | null = null;
process.exitCode = await runSuite({
  folder: 'test/faults',
  title: 'Fault tests',
  args: args.filter((arg) => !arg.startsWith('--seed=') && arg !== '--report' && arg !== '--oldest'),
  env: { FAULT_SEED: seed },
  onResults: (found) => (results = found),
});
if (args.includes('--report') && results !== null) {
  const machine = `${cpus().length} cores (${cpus()[0]?.model.trim()})`;
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(page, reliabilityPage(results, { seed, isLong: args.includes('--long'), date, machine }));
}
