import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { seeded } from '../seeded.ts';
import { atEveryRequest, Endurance } from './endure.ts';
import { Night } from './night.ts';

import { coalesced, cutInEvent, hugeLine, inPieces, late, twice, withinCharacter, type Transform } from './streams.ts';

const seed = Number(process.env['FAULT_SEED'] ?? 1);
let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

const toWatches = (body: Transform) => atEveryRequest(({ isWatch }) => (isWatch ? { body } : null));

describe('while the bytes of every watch', () => {
  test.each<[string, Transform]>([
    ['come in pieces of one byte', inPieces(1)],
    ['end in the middle of a line, cleanly', cutInEvent('end')],
    ['end in the middle of a line, by a reset', cutInEvent('reset')],
    ['end in the middle of a character', cutInEvent('reset', withinCharacter)],
    ['are one line of 64 MiB', hugeLine(64 * 2 ** 20)],
  ])('%s, the operator goes on and loses nothing', async (_, body) => {
    expect(await endurance.under(toWatches(body), { lastsMs: 4_000 })).toEqual([]);
  });
});

describe('while the events of every watch', () => {
  test('come twice, the operator does nothing twice', async () => {
    expect(await endurance.under(toWatches(twice), { lastsMs: 3_000 })).toEqual([]);
  });

  test('come up to two seconds late, and across kinds out of order, the operator goes on', async () => {
    expect(await endurance.under(toWatches(late(seeded(seed), 2_000)), { lastsMs: 6_000 })).toEqual([]);
  });

  test('are held back and then come as the last of each object alone, the operator ends where it should', async () => {
    const gate = Promise.withResolvers<void>();
    const broken = await endurance.under(
      async (night) => {
        const end = await toWatches(coalesced(gate.promise))(night);
        return async () => {
          gate.resolve();
          await end();
        };
      },
      { lastsMs: 4_000 },
    );
    expect(broken).toEqual([]);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
