import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Endurance, type Begin } from './endure.ts';
import { Night, type ReplicaOptions } from './night.ts';

// An upgrade and its way back: the replicas of two versions run beside each other, under the rights, the policy and the
// CRD of the newer one, as `helm upgrade` and `kubectl apply` put them there first.

const root = fileURLToPath(new URL('../../', import.meta.url));
const previous = process.env['PREVIOUS_VERSION'] ?? lastRelease();
if (previous === null) {
  console.log('skipped: there is no release before this one (a commit to take for it: PREVIOUS_VERSION=…)');
}

/** The tag that the commit before this one has or follows. */
function lastRelease(): string | null {
  try {
    const args = ['describe', '--tags', '--abbrev=0', '--match=v*', 'HEAD^'];
    return execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}

/** The sources of a commit, with the dependencies of now, in a folder that goes with the cluster. */
function checkedOut(commit: string, { cluster }: Night): string {
  const folder = join(cluster.dir, 'previous');
  mkdirSync(folder);
  const tar = execFileSync('git', ['archive', commit], { cwd: root, maxBuffer: 2 ** 30 });
  execFileSync('tar', ['-x', '-C', folder], { input: tar });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

describe.skipIf(previous === null)(`while replicas of ${previous} run beside those of now, the operator`, () => {
  let night: Night;
  let endurance: Endurance;
  let before: ReplicaOptions;
  const now: ReplicaOptions = {};

  beforeAll(async () => {
    night = await Night.begin();
    before = { main: join(checkedOut(previous ?? '', night), 'src/main.ts') };
    night.usual = () => before;
    endurance = await Endurance.begin(night);
  });
  afterAll(() => night?.end());

  /** As a Deployment does it: one more is started, and when it is ready one of the old ones is ended. */
  function rolledTo(version: ReplicaOptions): Begin {
    return async () => {
      night.usual = () => version;
      for (const { operator } of [...night.replicas]) {
        await night.startReplica();
        operator.process.kill('SIGTERM');
        await operator.exited;
      }
      return async () => void (await night.leader());
    };
  }

  /** The other one may lead before its lease has ended. */
  const leaderKilled: Begin = async () => {
    const { operator } = await night.leader();
    await operator.kill();
    return () => night.restaff();
  };

  const steps: [what: string, version: () => ReplicaOptions][] = [
    ['that is upgraded goes on where the one before was', () => now],
    ['that is rolled back does so, too', () => before],
    ['that is upgraded once more finds what it had left', () => now],
  ];
  test.each(steps)('%s', async (_, version) => {
    expect(await endurance.under(rolledTo(version()), { lastsMs: 3_000 })).toEqual([]);
  });

  test('goes on when the leader of either version is killed', async () => {
    for (const version of [before, now]) {
      night.usual = () => version;
      expect(await endurance.under(leaderKilled, { lastsMs: 20_000 })).toEqual([]);
    }
  });

  test('afterwards nothing is written', async () => {
    expect(await endurance.afterwards()).toEqual([]);
  });
});
