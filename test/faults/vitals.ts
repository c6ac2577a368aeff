// Preloaded into the operator (`--import`): what only the process itself knows goes to a file, a line each second.

import { appendFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';

export interface Vitals {
  readonly atMs: number; // since the process began
  readonly wallMs: number; // what its wall clock shows
  readonly heapUsed: number; // bytes
  readonly external: number; // bytes
  readonly rss: number; // bytes
  readonly lagMs: number; // the longest delay of the event loop within this second
  /** Timers, sockets and all else that keeps it alive, by kind. */
  readonly resources: Readonly<Record<string, number>>;
}

const file = process.env['VITALS_FILE'];
if (file !== undefined) {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  setInterval(() => {
    const { heapUsed, external, rss } = process.memoryUsage();
    const resources: Record<string, number> = {};
    for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1;
    const lagMs = delay.max / 1e6;
    delay.reset();
    const [atMs, wallMs] = [performance.now(), Date.now()];
    const vitals: Vitals = { atMs, wallMs, heapUsed, external, rss, lagMs, resources };
    appendFileSync(file, `${JSON.stringify(vitals)}\n`);
  }, 1_000).unref();
}
