// Runs apart from the tests: waits until its standard input ends, then undoes a ledger from its end (processLedger.ts).

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTimeOf, type LedgerEntry } from './processLedger.ts';

const patience = 10_000; // ms for a killed process to be gone

const file = process.argv[2];
if (file === undefined) throw new Error('usage: keeper.ts LEDGER');

// Whoever stops the tests also signals their children: the keeper goes when its work is done.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.stdin.resume();
process.stdin.once('error', () => process.stdin.destroy());
process.stdin.once('close', () => void undo());

async function undo(): Promise<void> {
  const entries = readFileSync(file ?? '', 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as LedgerEntry);
  for (const entry of entries.toReversed()) {
    if ('run' in entry) spawnSync('bash', ['-c', entry.run], { stdio: 'inherit', cwd: '/', timeout: 60_000 });
    else await end(entry.pid, entry.startTime);
  }
  process.exit(0);
}

/** The data are thrown away: nobody needs to save anything, so it is SIGKILL at once. */
async function end(pid: number, startTime: string | null): Promise<void> {
  const isIt = () => startTime !== null && startTimeOf(pid) === startTime;
  if (!isIt()) return;
  process.kill(pid, 'SIGKILL');
  for (let waited = 0; waited < patience && isIt(); waited += 20) await sleep(20);
}
