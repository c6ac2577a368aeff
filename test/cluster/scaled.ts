/** Whether long waits are kept in full: `npm run test:cluster -- --long`. */
export const isLong = process.env['CLUSTER_LONG'] === '1';

/** A long wait or a big number: as it is with `--long`, else a tenth (and at least `atLeast`). */
export function scaled(full: number, atLeast = 0): number {
  return isLong ? full : Math.max(atLeast, Math.round(full / 10));
}
