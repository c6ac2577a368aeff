import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isLong } from '../cluster/scaled.ts';
import { askForRefresh, createNamespace, waitForToken, waitUntilServed } from '../cluster/served.ts';
import { Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';

// etcd goes back to a copy of its folder: with it every object, every resourceVersion, and the tokens of then. The one
// history that the oracles look at ends there and another one begins, as versions come twice: the first is judged
// before it ends. How often things are made and deleted is judged of the second.

let night: Night;
let endurance: Endurance;
let copies = 0;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

/** A copy of etcd's folder as it is now. */
async function copied(): Promise<string> {
  const copy = join(night.cluster.dir, `etcd-copy-${(copies += 1)}`);
  await night.cluster.whileDown((dir) => cpSync(dir, copy, { recursive: true }));
  return copy;
}

/** Puts the copy back. What was broken until then. Nobody writes before the new history has begun. */
async function restored(copy: string): Promise<string[]> {
  const broken = await night.violations();
  const gate = Promise.withResolvers<void>();
  for (const { proxy } of night.replicas) proxy.fault = () => ({ before: () => gate.promise });
  await night.cluster.whileDown((dir) => {
    rmSync(dir, { recursive: true });
    cpSync(copy, dir, { recursive: true });
  });
  await night.goneBack();
  night.endFaults();
  gate.resolve();
  return broken;
}

async function refreshed(): Promise<void> {
  await night.ecr.rested();
  const calls = night.ecr.calls.length;
  await askForRefresh(night.admin);
  await waitForToken(night.admin, {
    namespaces: endurance.namespaces,
    auth: () => (night.ecr.calls.length > calls ? night.ecr.issued.at(-1)?.auth : 'to come'),
  });
}

interface Moments {
  before?: () => Promise<void>;
  after?: () => Promise<void>;
}

/** In the history that ends, every namespace gets a newer token, and `before` is done; in the next one `after` is. */
function goneBack(broken: string[], { before, after }: Moments = {}): Begin {
  return async () => {
    const copy = await copied();
    await refreshed();
    return async () => {
      const made = endurance.namespaces.at(-1) ?? ''; // since the copy: it is gone, and whoever made it makes it again
      await night.whole(endurance.namespaces);
      await before?.();
      broken.push(...(await restored(copy)));
      await createNamespace(night.admin, made);
      await after?.();
    };
  };
}

describe('while etcd is restored from a copy, the operator', () => {
  test('that runs sees that everything has gone back, and puts the newest token everywhere', async () => {
    const broken: string[] = [];
    const begin = goneBack(broken);
    expect(await endurance.under(begin, { lastsMs: 1_000, calls: 1 })).toEqual([]);
    expect(broken).toEqual([]);
  });

  test('that is killed later has told the next leader of the newest token', async () => {
    const broken: string[] = [];
    const begin = goneBack(broken, {
      after: async () => {
        await night.whole(endurance.namespaces);
        await (await night.leader()).operator.kill();
        await night.leader();
      },
    });
    expect(await endurance.under(begin, { lastsMs: 1_000, calls: 1 })).toEqual([]);
    expect(broken).toEqual([]);
    await night.startReplica();
  });

  test.runIf(isLong)('that was down meanwhile goes on with the token of then, and refreshes it', async () => {
    const broken: string[] = [];
    const begin = goneBack(broken, {
      before: () => night.killAll(),
      after: async () => {
        await Promise.all([night.startReplica(), night.startReplica()]);
        await waitUntilServed(night.admin, endurance.namespaces);
        await refreshed();
      },
    });
    expect(await endurance.under(begin, { lastsMs: 1_000, calls: 2 })).toEqual([]);
    expect(broken).toEqual([]);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.quiet()).toEqual([]);
});
