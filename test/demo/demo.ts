// npm run demo: the operator at its job, on a cluster, an AWS and a registry that are all in this process. Nothing is
// recorded: every claim is held against what is really there, and one that fails makes the exit code 1.

import { setTimeout as sleep } from 'node:timers/promises';
import { OperatorProcess } from './operatorProcess.ts';
import { Pullers } from './pullers.ts';
import { expect, image, Scene, until } from './scene.ts';
import { Stage } from './stage.ts';

const LIFE_MS = 24_000; // of a token, in place of twelve hours; the operator refreshes at half of it
const LONGEST_MS = 58_000;
const teams = Array.from({ length: 50 }, (_, i) => `team-${i}`);
const [first = '', second = '', foreign = ''] = teams;

const begun = performance.now();
const stage = new Stage({ out: process.stdout });
const scene = await Scene.set({ lifeMs: LIFE_MS, namespaces: teams });
const pullers = new Pullers(scene.sandbox, { image, namespaces: teams.filter((team) => team !== foreign) });
let operator: OperatorProcess | null = null;

process.once('SIGINT', () => void leave(130));
process.once('SIGTERM', () => void leave(143));
const overtime = setTimeout(() => {
  stage.show(`It takes longer than ${LONGEST_MS / 1000} s.`);
  void leave(1);
}, LONGEST_MS);

try {
  await play();
  process.exitCode = await close();
} catch (error) {
  stage.show('', error instanceof Error ? (error.stack ?? error.message) : String(error));
  await leave(1);
}

async function play(): Promise<void> {
  stage.title(
    'ecr-pull-secrets',
    `A cluster with ${teams.length} namespaces, an ECR whose tokens live for ${LIFE_MS / 1000} s in place of 12 hours, a registry that lets in live tokens only, and the operator. All of it on loopback.`,
  );
  await nobodyCanPull();
  await everybodyIsServed();
  await podsPull();
  await latecomersAreServed();
  await foreignThingsStay();
  await restartCostsNothing();
  await tokenIsRefreshed();
  await awsGoesAwayAndATokenEnds();
  await everythingGoes();
}

async function nobodyCanPull(): Promise<void> {
  stage.step('Nobody can pull yet');
  scene.createForeignSecret(foreign);
  scene.addForeignEntry(second);
  await stage.claim(`a pod in ${first} cannot pull its image`, async () => {
    const { ok, message } = await scene.pull(first);
    expect(!ok, 'the registry let it in without a token');
    return message.split(': ').at(-1) ?? '';
  });
}

async function everybodyIsServed(): Promise<void> {
  stage.step('The operator starts, and kubectl applies one ClusterECRPullSecret');
  operator = OperatorProcess.start(scene.sandbox);
  await until(
    'the operator leads',
    () => scene.sandbox.api.audit.of({ resource: 'leases', code: 201 }).length > 0,
    10_000,
  );
  const mark = scene.mark();
  scene.applyResource();
  const served = teams.filter((team) => team !== foreign);
  await stage.claim(`${served.length} namespaces have the Secret and the entry`, async () => {
    const ms = await until('all are served', () => served.every((team) => scene.isServed(team)), 10_000);
    return `after ${Math.round(ms)} ms`;
  });
  await stage.claim('they cost one GetAuthorizationToken', () => {
    expect(scene.tokenCalls() === 1, `there were ${scene.tokenCalls()}`);
    return '1 AWS call';
  });
  await stage.claim('and two writes each', () => {
    const count = scene.fanOutWrites(mark).filter(({ namespace }) => namespace !== foreign).length;
    expect(count === 2 * served.length, `there were ${count} for ${served.length} namespaces`);
    return `${count} writes`;
  });
  await until('the status says so', () => scene.table().join().includes(`${served.length}/${teams.length}`), 5_000);
  stage.show('', '$ kubectl get cecr', ...scene.table());
}

async function podsPull(): Promise<void> {
  stage.step('Pods just pull');
  await stage.claim('a new pod in each of them pulls at once', async () => {
    const served = teams.filter((team) => team !== foreign);
    const pulls = await Promise.all(served.map((team) => scene.pull(team)));
    const refused = pulls.find(({ ok }) => !ok);
    expect(refused === undefined, refused?.message ?? '');
    return `${pulls.length} pulls`;
  });
  pullers.start(60);
  stage.say('From here on a new pod is made all the time, one namespace after the other.');
}

async function latecomersAreServed(): Promise<void> {
  stage.step('A namespace and a ServiceAccount that come late');
  await stage.claim('a new namespace is served', async () => {
    scene.createNamespace('team-late');
    const ms = await until('team-late is served', () => scene.isServed('team-late'), 5_000);
    const { ok, message } = await scene.pull('team-late');
    expect(ok, message);
    return `after ${Math.round(ms)} ms, and pulls`;
  });
  await stage.claim('a new ServiceAccount has its entry', async () => {
    scene.createServiceAccount(first, 'builder');
    return `after ${Math.round(await until('it has', () => scene.isServed(first, 'builder'), 5_000))} ms`;
  });
}

async function foreignThingsStay(): Promise<void> {
  stage.step('What belongs to others');
  await stage.claim(`an entry of others in ${second} stands beside ours`, () => {
    const entries = scene.entries(second);
    expect(entries.includes('harbor') && entries.includes('ecr-pull'), `there is ${entries.join(', ')}`);
    return entries.join(', ');
  });
  await stage.claim(`a Secret of others under our name is left alone`, async () => {
    await until('the condition Blocked', () => scene.condition('Blocked')?.status === 'True', 5_000);
    const writes = scene.fanOutWrites().filter(({ namespace, code }) => namespace === foreign && code < 300);
    expect(writes.length === 0, `${writes.length} writes to ${foreign}`);
    return 'told as Blocked=True';
  });
  stage.say(scene.condition('Blocked')?.message ?? '');
}

async function restartCostsNothing(): Promise<void> {
  stage.step('A restart of the operator');
  await stage.claim('SIGTERM: it gives its lease back and ends', async () => {
    const from = performance.now();
    const code = await operator?.stop();
    expect(code === 0, `exit code ${code}`);
    return `exit code 0 after ${Math.round(performance.now() - from)} ms`;
  });
  const mark = scene.mark();
  const calls = scene.tokenCalls();
  const from = performance.now();
  operator = OperatorProcess.start(scene.sandbox);
  await stage.claim('started again, it serves a new namespace', async () => {
    scene.createNamespace('team-after-restart');
    await until('it is served', () => scene.isServed('team-after-restart'), 10_000);
    return `${((performance.now() - from) / 1000).toFixed(1)} s after the start`;
  });
  await stage.claim('and the restart cost nothing', () => {
    const others = scene.fanOutWrites(mark).filter(({ namespace }) => namespace !== 'team-after-restart');
    expect(others.length === 0, `${others.length} writes`);
    expect(scene.tokenCalls() === calls, `${scene.tokenCalls() - calls} AWS calls`);
    return '0 AWS calls, 0 writes';
  });
}

async function tokenIsRefreshed(): Promise<void> {
  stage.step('Half of the token’s life');
  const mark = scene.mark();
  await stage.claim(
    'a fresh token is everywhere before the old one ends',
    async () => {
      await until('a second token', () => scene.tokenCalls() === 2, LIFE_MS);
      const writes = () => scene.fanOutWrites(mark).length;
      const served = teams.length + 1; // all but the foreign one, and those that came late
      await until('all have it', () => writes() >= served, 10_000);
      await sleep(200);
      expect(writes() === served, `${writes()} writes for ${served} namespaces`);
      return `${(firstTokenLeftMs() / 1000).toFixed(0)} s before`;
    },
    () => `${seconds(firstTokenLeftMs())} left, ${pullers.count} pulls`,
  );
  await stage.claim('it cost one call, and one write each', () => {
    const calls = scene.tokenCalls() - 1;
    expect(calls === 1, `${calls} calls`);
    return `1 AWS call, ${scene.fanOutWrites(mark).length} writes`;
  });
}

async function awsGoesAwayAndATokenEnds(): Promise<void> {
  stage.step('AWS goes away, and the first token ends');
  await scene.sandbox.aws.setMode('down');
  const calls = scene.tokenCalls();
  await stage.claim(
    'the first token has ended, and pods pull on',
    async () => {
      await until('it has ended', () => firstTokenLeftMs() < 0, LIFE_MS);
      await sleep(300);
      const [token] = scene.sandbox.aws.tokens.all;
      expect(scene.sandbox.aws.tokens.stateOf(token?.auth ?? '') === 'expired', 'it is still alive');
      return noneRefused();
    },
    () => `${seconds(firstTokenLeftMs())} left, ${pullers.count} pulls`,
  );
  await stage.claim(
    'the next refresh fails, and that is told',
    async () => {
      await until('it says so', () => scene.condition('Refreshed')?.status === 'False', LIFE_MS);
      return `Refreshed=False, ${scene.condition('Refreshed')?.reason}`;
    },
    () => `${pullers.count} pulls`,
  );
  await stage.claim('nothing is lost: the good token stays', () => {
    const empty = teams.filter((team) => team !== foreign && !scene.isServed(team));
    expect(empty.length === 0, `${empty.join(', ')} lost it`);
    return noneRefused();
  });
  await scene.sandbox.aws.reset();
  await stage.claim(
    'AWS is back, and so is a fresh token',
    async () => {
      const isFresh = () => scene.tokenCalls() > calls && scene.condition('Refreshed')?.status === 'True';
      const ms = await until('a fresh token', isFresh, LIFE_MS);
      noneRefused();
      return `after ${(ms / 1000).toFixed(1)} s`;
    },
    () => `${pullers.count} pulls`,
  );
}

function firstTokenLeftMs(): number {
  return (scene.sandbox.aws.tokens.all[0]?.diesAt ?? 0) - scene.sandbox.aws.now();
}

function seconds(ms: number): string {
  return `${Math.max(0, Math.ceil(ms / 1000))} s`;
}

async function everythingGoes(): Promise<void> {
  stage.step('The resource is deleted');
  await pullers.stop();
  const before = scene.secretVersion(foreign);
  scene.deleteResource();
  await stage.claim('all that is ours goes, once it cannot be a mistake', async () => {
    const ours = [...teams, 'team-late', 'team-after-restart'].filter((team) => team !== foreign);
    const isEmpty = (team: string): boolean =>
      scene.secretVersion(team) === null && !scene.entries(team).includes('ecr-pull');
    const ms = await until('all are empty', () => ours.every(isEmpty), 12_000);
    return `after ${(ms / 1000).toFixed(1)} s`;
  });
  await stage.claim('what belongs to others is as it was', () => {
    expect(scene.entries(second).join() === 'harbor', `the entries of ${second}: ${scene.entries(second).join()}`);
    expect(before !== null && scene.secretVersion(foreign) === before, `the Secret of ${foreign} was changed`);
    return 'harbor, and the foreign Secret';
  });
  await stage.claim(`and a pod in ${first} can pull no more`, async () => {
    expect(!(await scene.pull(first)).ok, 'it can');
    return 'refused';
  });
}

function noneRefused(): string {
  const [refusal] = pullers.refusals;
  expect(refusal === undefined, `${refusal?.namespace}: ${refusal?.message}`);
  return `${pullers.count} pulls, none refused`;
}

async function close(): Promise<number> {
  clearTimeout(overtime);
  const took = seconds(performance.now() - begun);
  const { held, broken } = stage;
  const issued = scene.sandbox.aws.tokens.all.length;
  if (broken.length === 0) {
    stage.verdict(
      true,
      `${held} of ${held} claims held, in ${took}: ${pullers.count} new pods pulled, with ${issued} tokens.`,
    );
  } else stage.verdict(false, `${broken.length} of ${held + broken.length} claims FAILED, in ${took}.`);
  if (broken.length > 0) tellLog();
  await stop();
  return broken.length === 0 ? 0 : 1;
}

function tellLog(): void {
  stage.show('The last lines of the operator:', ...(operator?.tail(15) ?? []), '');
}

async function stop(): Promise<void> {
  await pullers.stop();
  if (operator?.isRunning) await operator.stop();
  await scene.sandbox.close();
}

async function leave(code: number): Promise<void> {
  if (code === 1) tellLog();
  operator?.kill();
  await scene.sandbox.close().catch(() => undefined);
  process.exit(code);
}
