import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { accountPath } from '../cluster/served.ts';
import { seeded } from '../seeded.ts';
import { atEveryRequest, Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';
import {
  coalesced,
  counted,
  cutInEvent,
  hugeLine,
  inPieces,
  late,
  splitsCharacter,
  twice,
  withinCharacter,
  type Passed,
  type Transform,
} from './streams.ts';

const seed = Number(process.env['FAULT_SEED'] ?? 1);
let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

/** The first events that come are of objects whose text is not ASCII alone. */
function toWatches(body: Transform): Begin {
  return async (night) => {
    const end = await atEveryRequest(({ isWatch }) => (isWatch ? { body } : null))(night);
    const annotations = { greeting: `Grüße, 你好, 🚀 in ${endurance.round}` };
    await night.admin.patch('/api/v1/namespaces/team-0', { metadata: { annotations } });
    await night.admin.patch(accountPath('team-0'), { metadata: { annotations } });
    return end;
  };
}

/** While the fault lasts, this comes true of what has passed. */
function until(passed: Passed, isSo: (passed: Passed) => boolean): () => Promise<void> {
  return async () => {
    await eventually('enough has passed', () => {
      if (isSo(passed)) return true;
      throw new Error(JSON.stringify(passed));
    });
  };
}

describe('while the bytes of every watch', () => {
  let cutsInCharacters = 0;
  const noted = (line: Buffer): number => {
    const at = withinCharacter(line);
    if (splitsCharacter(line, at)) cutsInCharacters += 1;
    return at;
  };

  test.each<[string, Transform, (passed: Passed) => boolean]>([
    [
      'come in pieces of one byte',
      inPieces(1),
      (passed) => passed.eventsOut > 0 && passed.pieces > passed.eventsOut * 100,
    ],
    ['end in the middle of a line, cleanly', cutInEvent('end'), cutOff],
    ['end in the middle of a line, by a reset', cutInEvent('reset'), cutOff],
    [
      'end in the middle of a character',
      cutInEvent('reset', noted),
      (passed) => cutOff(passed) && cutsInCharacters > 0,
    ],
    ['are one line of 64 MiB', hugeLine(64 * 2 ** 20), ({ pieces }) => pieces > 250], // 16 MiB are too much already
  ])('%s, the operator goes on and loses nothing', async (_, transform, isSo) => {
    const { body, passed } = counted(transform);
    expect(await endurance.under(toWatches(body), { lastsMs: 4_000, during: until(passed, isSo) })).toEqual([]);
  });
});

/** Some event had begun to come, and none came whole. */
function cutOff({ eventsIn, eventsOut, pieces }: Passed): boolean {
  return eventsIn > 0 && pieces > 0 && eventsOut === 0;
}

describe('while the events of every watch', () => {
  test('come twice, the operator does nothing twice', async () => {
    const { body, passed } = counted(twice);
    const during = until(passed, ({ eventsIn, eventsOut }) => eventsIn > 0 && eventsOut > eventsIn);
    expect(await endurance.under(toWatches(body), { lastsMs: 3_000, during })).toEqual([]);
  });

  test('come up to two seconds late, and across kinds out of order, the operator goes on', async () => {
    const { body, passed } = counted(late(seeded(seed), 2_000));
    const during = until(passed, ({ eventsOut }) => eventsOut > 0);
    expect(await endurance.under(toWatches(body), { lastsMs: 6_000, during })).toEqual([]);
  });

  test('are held back and then come as the last of each object alone, the operator ends where it should', async () => {
    const gate = Promise.withResolvers<void>();
    const { body, passed } = counted(coalesced(gate.promise));
    let held: Passed | null = null;
    const broken = await endurance.under(
      async (night) => {
        const end = await toWatches(body)(night);
        return async () => {
          held = { ...passed };
          gate.resolve();
          await eventually('what was held back has come', () => passed.eventsOut > 0);
          await end();
        };
      },
      { lastsMs: 4_000, during: until(passed, ({ eventsIn }) => eventsIn > 0) },
    );
    expect(broken).toEqual([]);
    expect(held).toMatchObject({ eventsOut: 0 });
    // Fewer than were held: at the latest then some object had changed twice.
    expect(passed.eventsOut).toBeLessThan(passed.eventsIn);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
