import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { isLong } from '../cluster/scaled.ts';
import { accountPath } from '../cluster/served.ts';
import { Endurance, type Begin } from './endure.ts';
import { described, drawMix, noiseOf, type Incident, type MixPlan } from './mix.ts';
import { leasePath, Night } from './night.ts';

// Faults drawn by lot, several at once. `--seed=N` begins with that seed, so that a night that broke something can be
// had again as the first of a run.

const first = Number(process.env['FAULT_SEED'] ?? 1);
const count = isLong ? 200 : 10;
const nightsEach = 20; // of one control plane: what is judged grows with all that happened before
const lastsMs = isLong ? 10_000 : 5_000;
const lingersMs = 1_500; // what is delayed still arrives
const seeds = Array.from({ length: count }, (_, index) => first + index);
const blocks = Array.from({ length: Math.ceil(count / nightsEach) }, (_, index) =>
  seeds.slice(index * nightsEach, (index + 1) * nightsEach),
);
if (!isLong) console.log(`${count} seeds; 200 with --long`);

const carryOut: Readonly<Record<Incident, (night: Night) => Promise<void> | void>> = {
  'the leader is killed': async (night) => void (await night.leader()).operator.process.kill('SIGKILL'),
  'the leader is told to end': async (night) => void (await night.leader()).operator.process.kill('SIGTERM'),
  'the leader stands still for 3 s': async (night) => {
    const { operator } = await night.leader();
    operator.pause();
    await sleep(3_000);
    operator.cont();
  },
  'the API server is killed and comes again': (night) => night.cluster.restartApiServer('SIGKILL'),
  'every connection is reset': ({ replicas }) => replicas.forEach(({ proxy }) => proxy.reset()),
  // Until the end, since a silent one is given up after 150 s.
  'the watches go silent until the end': async ({ replicas, admin }) => {
    // Each may have been cut or refused just now.
    await eventually('a watch is there to go silent', () => Math.max(...replicas.map(({ proxy }) => proxy.silence())));
    await admin.patch(accountPath('team-1'), { imagePullSecrets: null }); // nobody sees it before the end
  },
  'the lease is deleted': (night) => night.admin.delete(leasePath),
};

/** Begins the noise at once and carries out the incidents in their time; what it returns waits for them and ends it. */
function bad(plan: MixPlan): Begin {
  return (night) => {
    for (const [index, { proxy }] of night.replicas.entries()) {
      proxy.fault = noiseOf(plan, index);
      if (plan.watches === 'cut every 1.5 s') proxy.endWatches = { afterMs: 1_500, by: 'reset' };
      proxy.reset();
    }
    const happened = (async () => {
      const begun = Date.now();
      for (const { what, atMs } of plan.incidents) {
        await sleep(Math.max(0, begun + atMs - Date.now()));
        await carryOut[what](night);
      }
    })();
    happened.catch(() => undefined); // told at the end
    return async () => {
      try {
        await happened;
      } finally {
        for (const { proxy } of night.replicas) {
          Object.assign(proxy, { fault: () => null, endWatches: null });
          proxy.resetSilent();
        }
      }
      await night.restaff();
    };
  };
}

describe.each(blocks)('while faults drawn by lot come several at once,', (...block) => {
  let night: Night;
  let endurance: Endurance;

  beforeAll(async () => {
    night = await Night.begin();
    endurance = await Endurance.begin(night);
  });
  afterAll(() => night?.end());

  test.each(block.map((seed) => drawMix(seed, lastsMs)))(
    'the operator loses nothing and ends where it should, with seed $seed',
    async (plan) => {
      console.log(described(plan));
      expect(await endurance.under(bad(plan), { lastsMs, lingersMs }), described(plan)).toEqual([]);
    },
  );

  test('afterwards nothing is written', async () => {
    expect(await endurance.afterwards()).toEqual([]);
  });
});
