import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const TICKS_PER_SECOND = 100; // USER_HZ of every Linux that Node runs on

/** CPU time that a process has used, in ms. */
export function cpuMs(pid: number): number {
  // The command's name may hold blanks; what follows its closing parenthesis does not.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1_000) / TICKS_PER_SECOND;
}

/** CPU that a process uses while nothing happens, in percent of one core. */
export async function idleCpuPercent(pid: number, overMs: number): Promise<number> {
  const before = cpuMs(pid);
  await sleep(overMs);
  return ((cpuMs(pid) - before) * 100) / overMs;
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
