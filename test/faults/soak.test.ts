import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isLong } from '../cluster/scaled.ts';
import { createNamespace, createNamespaces, resource } from '../cluster/served.ts';
import { Night } from './night.ts';
import { floors } from './readVitals.ts';

// Tokens of 40 s, and namespaces that come and go: what the operator holds on to does not grow. An hour with --long, or as
// many minutes as SOAK_MINUTES says.

const lifeMs = 40_000;
const minutes = Number(process.env['SOAK_MINUTES'] ?? (isLong ? 60 : 1.5));
const warmUpMs = Math.min(300_000, (minutes * 60_000) / 3);
if (!isLong) console.log(`${minutes} minutes; an hour with --long`);

let night: Night;
let namespaces: string[];

beforeAll(async () => {
  night = await Night.begin({ lifeMs });
  namespaces = await createNamespaces(night.admin, 20);
  await night.admin.create(resource('production', { verification: { mode: 'Disabled' } }));
  await night.startReplica();
  await night.whole(namespaces);
});
afterAll(() => night?.end());

test(
  `while tokens live for ${lifeMs / 1_000} s and namespaces come and go, the operator's memory, sockets, timers and delays do not grow`,
  async () => {
    night.mark();
    const replica = await night.leader();
    const { operator } = replica;
    const [begun, calls] = [Date.now(), night.ecr.calls.length];
    for (let index = 0; Date.now() - begun < minutes * 60_000; index += 1) {
      const name = `passing-${index}`;
      await createNamespace(night.admin, name);
      await sleep(1_000);
      await night.admin.delete(`/api/v1/namespaces/${name}`);
      await sleep(1_000);
    }
    const elapsedMs = Date.now() - begun;
    const vitals = replica.vitals().filter(({ atMs }) => atMs > warmUpMs);
    const halves = floors(vitals, 2, ({ heapUsed, external }) => heapUsed + external);
    const grown = (halves.at(-1) ?? NaN) - (halves[0] ?? NaN);
    const kinds = [...new Set(vitals.flatMap(({ resources }) => Object.keys(resources)))];
    const [before, after] = [vitals.slice(0, vitals.length >> 1), vitals.slice(vitals.length >> 1)];
    const most = (of: typeof vitals, kind: string): number =>
      Math.max(...of.map(({ resources }) => resources[kind] ?? 0));
    const growing = kinds.filter((kind) => most(after, kind) > most(before, kind) + 4);
    const lagMs = Math.max(...vitals.map((one) => one.lagMs));
    console.log(
      `${Math.round(elapsedMs / 1_000)} s, ${vitals.length} samples: heap ${halves.map(mebibytes).join(' → ')} MiB, ` +
        `resident ${mebibytes(operator.memory())} MiB, longest delay ${Math.round(lagMs)} ms, ` +
        kinds.map((kind) => `${kind} ${most(before, kind)} → ${most(after, kind)}`).join(', '),
    );
    expect(growing).toEqual([]);
    expect(grown, 'bytes more in the second half').toBeLessThan(3 * 2 ** 20);
    expect(lagMs).toBeLessThan(1_000);
    // One at each half of a life, a little earlier.
    const most40 = Math.ceil(elapsedMs / (0.45 * lifeMs)) + 1;
    expect(night.ecr.calls.length - calls).toBeLessThanOrEqual(most40);
    expect(await night.violations()).toEqual([]);
    expect(night.replicas).toHaveLength(1);
  },
  8 * 3_600_000,
);

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
