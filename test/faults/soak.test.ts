import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isLong } from '../cluster/scaled.ts';
import { authIn, createNamespace, createNamespaces, footprint, resource, waitUntilServed } from '../cluster/served.ts';
import { Night, type Replica } from './night.ts';
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
  await Promise.all([night.startReplica(), night.startReplica()]);
  await night.whole(namespaces);
});
afterAll(() => night?.end());

/** A namespace that is served within 5 s, and then goes. */
async function passing(name: string): Promise<void> {
  await createNamespace(night.admin, name);
  await waitUntilServed(night.admin, [name], 5_000);
  await sleep(500);
  await night.admin.delete(`/api/v1/namespaces/${name}`);
  await sleep(1_000);
}

/** Which namespaces hold no token that lives. */
async function withoutLiveToken(): Promise<string[]> {
  const found = await footprint(night.admin);
  return namespaces.filter((name) => night.ecr.stateOf(authIn(found.get(name)) ?? '') !== 'live');
}

/** Life for so long; the tokens are looked at every 5 s. */
async function live(lastsMs: number): Promise<void> {
  const begun = Date.now();
  let lookAt = begun;
  for (let index = 0; Date.now() - begun < lastsMs; index += 1) {
    await passing(`passing-${index}`);
    if (Date.now() < lookAt) continue;
    lookAt = Date.now() + 5_000;
    expect(await withoutLiveToken(), `after ${Math.round((Date.now() - begun) / 1_000)} s`).toEqual([]);
  }
}

/** What grew, in words. */
function growthOf({ operator, vitals: tell }: Replica): string[] {
  const { name } = operator.process;
  const vitals = tell().filter(({ atMs }) => atMs > warmUpMs);
  const halves = floors(vitals, 2, ({ heapUsed, external }) => heapUsed + external);
  const grown = (halves.at(-1) ?? NaN) - (halves[0] ?? NaN);
  const kinds = [...new Set(vitals.flatMap(({ resources }) => Object.keys(resources)))];
  const [before, after] = [vitals.slice(0, vitals.length >> 1), vitals.slice(vitals.length >> 1)];
  const countsOf = (of: typeof vitals, kind: string): number[] => of.map(({ resources }) => resources[kind] ?? 0);
  // A refresh takes as many connections as it can use at once, and keeps them for half a minute: what is never given back
  // raises what is least.
  const least = (of: typeof vitals, kind: string): number => Math.min(...countsOf(of, kind));
  const most = (of: typeof vitals, kind: string): number => Math.max(...countsOf(of, kind));
  const spanOf = (of: typeof vitals, kind: string): string => `${least(of, kind)}–${most(of, kind)}`;
  const growing = kinds.filter((kind) => least(after, kind) > least(before, kind) + 2);
  const lagMs = Math.max(...vitals.map((one) => one.lagMs));
  console.log(
    `${name}, ${vitals.length} samples: heap ${halves.map(mebibytes).join(' → ')} MiB, ` +
      `resident ${mebibytes(operator.memory())} MiB, longest delay ${Math.round(lagMs)} ms, ` +
      kinds.map((kind) => `${kind} ${spanOf(before, kind)} → ${spanOf(after, kind)}`).join(', '),
  );
  return [
    ...growing.map((kind) => `${name} has more and more of ${kind}`),
    ...(grown < 3 * 2 ** 20 ? [] : [`${name} holds ${mebibytes(grown)} MiB more in the second half`]),
    ...(lagMs < 1_000 ? [] : [`${name} stood still for ${Math.round(lagMs)} ms`]),
  ];
}

test(
  `while tokens live for ${lifeMs / 1_000} s and namespaces come and go, every namespace has a live token, and memory, sockets, timers and delays do not grow`,
  async () => {
    night.mark();
    const [begun, calls] = [Date.now(), night.ecr.calls.length];
    await live(minutes * 60_000);
    const elapsedMs = Date.now() - begun;
    const made = night.ecr.calls.length - calls;
    expect(night.replicas).toHaveLength(2);
    expect(night.replicas.flatMap(growthOf)).toEqual([]);
    // One at each half of a life, a little earlier.
    expect(made).toBeLessThanOrEqual(Math.ceil(elapsedMs / (0.45 * lifeMs)) + 1);
    expect(made).toBeGreaterThanOrEqual(Math.floor(elapsedMs / (0.6 * lifeMs)));
    await night.whole(namespaces);
    expect(await night.violations()).toEqual([]);
  },
  8 * 3_600_000,
);

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
