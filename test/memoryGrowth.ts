import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** What `work` adds to the heap and to the buffers beside it at its peak, garbage included, in bytes. */
export async function memoryGrowth(work: () => unknown): Promise<number> {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const used = (): number => {
    const { heapUsed, external } = process.memoryUsage(); // external: array buffers included
    return heapUsed + external;
  };
  const before = used();
  let peak = before;
  const look = (): void => {
    peak = Math.max(peak, used());
  };
  const timer = setInterval(look, 2);
  try {
    await work();
  } finally {
    clearInterval(timer);
    look();
  }
  return peak - before;
}

/** How long the fastest of a few runs keeps the event loop, in ms of its thread: what else runs beside it does not count. */
export function quickest(work: () => unknown): number {
  const times = Array.from({ length: 5 }, () => {
    const start = process.threadCpuUsage();
    work();
    const { user, system } = process.threadCpuUsage(start);
    return (user + system) / 1_000;
  });
  return Math.min(...times);
}
