// `npm run bench:scale [-- --namespaces=10000] [-- --write]`: ten thousand namespaces with five ServiceAccounts each, on a
// real control plane. Prints a table, and with --write docs/scale.md.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startCluster } from '../cluster/cluster.ts';
import { ecrHost } from '../cluster/door.ts';
import { eventually } from '../cluster/eventually.ts';
import { inParallel } from '../cluster/inParallel.ts';
import { installDeploy, leaderOf, operatorAccount, operatorUser, startOperator } from '../cluster/operator.ts';
import { StandInEcr } from '../cluster/standInEcr.ts';
import { readVitals, vitalsEnv } from '../faults/readVitals.ts';
import { Appearances } from './appearances.ts';
import { createNamespaces, names, spanOf, writesIn } from './fanOut.ts';
import { imageEnv } from './imageEnv.ts';
import { mebibytes, percentile } from './processFigures.ts';
import { rawWrites } from './rawWrites.ts';
import { printReport, reportOf, scaleMarkdown, type Figure } from './report.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { values: flags } = parseArgs({
  options: {
    namespaces: { type: 'string', default: '10000' },
    foreign: { type: 'string', default: '5000' },
    write: { type: 'boolean', default: false },
  },
});
const N = Number(flags.namespaces);
const FOREIGN = Number(flags.foreign);
const RAW = Math.ceil(N / 5); // the raw rate is that of a smaller, faster cluster: the harder limit
const ACCOUNTS = ['default', ...names('app', 4)];
const WRITES = 1 + ACCOUNTS.length;
const NEW_EACH_SECOND = 20;
const NEW_SECONDS = 30;
const AUTH = Buffer.from(`AWS:${'x'.repeat(2_000)}`).toString('base64');
const RESOURCE = '/apis/ecr.pullsecrets.io/v1alpha1/clusterecrpullsecrets/scale';

const figures: Figure[] = [];
const step = (text: string): void => void process.stderr.write(`${text}\n`);
const add = (name: string, value: string, target = '', isMet?: boolean): void => {
  figures.push({ name, value, target, ...(isMet !== undefined && { isMet }) });
};

step('building the bundle');
execFileSync(process.execPath, [`${root}scripts/bundle.ts`], { stdio: 'ignore' });

step(`the raw limit: ${RAW} namespaces on a control plane of their own`);
const rawRate = await rawWritesPerSecond();

const cluster = await startCluster();
const ecr = await StandInEcr.start();
const { admin } = cluster;
try {
  step(`a control plane with ${N} namespaces of ${ACCOUNTS.length} ServiceAccounts`);
  await installDeploy(cluster);
  await createNamespaces(cluster, { prefix: 'run', count: N, accounts: ACCOUNTS.slice(1) });

  step('the operator');
  const operator = await start('first');
  const idle = operator.memory();
  let mark = cluster.auditMark();
  await admin.create({
    apiVersion: 'ecr.pullsecrets.io/v1alpha1',
    kind: 'ClusterECRPullSecret',
    metadata: { name: 'scale' },
    spec: {
      registries: [{ host: ecrHost }],
      namespaces: { names: ['run-*', 'new-*'] },
      serviceAccounts: { names: ['*'] },
      verification: { mode: 'Disabled' },
    },
  });
  await settled(N);
  const first = await eventually('the audit log has them', () => {
    const found = writesIn(cluster, 'run-', mark);
    return found.length >= WRITES * N && found;
  });
  const servedMs = spanOf(first);
  const rate = first.length / (servedMs / 1_000);
  add('serve all', `${(servedMs / 1_000).toFixed(1)} s`);
  add('writes a second', rate.toFixed(0), `raw ${rawRate.toFixed(0)} with ${RAW} namespaces`);
  add('… time as a ratio to raw writes', (rawRate / rate).toFixed(2), '≤ 1.5', rawRate / rate <= 1.5);
  const perNamespace = first.length / N;
  add('API writes per namespace', perNamespace.toFixed(2), `${WRITES}.00`, perNamespace === WRITES);
  const requests = cluster.auditEvents({ user: operatorUser, since: mark }).length - first.length;
  add('all other API requests meanwhile', String(requests), '≤ 1 in 10 namespaces', requests <= N / 10);
  add('AWS calls', String(ecr.calls.length), '1', ecr.calls.length === 1);
  add('resident memory before the resource', mebibytes(idle));
  add('resident memory, all served', mebibytes(operator.memory()));
  add('longest event-loop delay in a second, p99', lag('first'), '');

  step('a refresh of all while new namespaces are made');
  await sleep(10_000); // never within 10 s of the last
  mark = cluster.auditMark();
  await cluster.kubectl('annotate', 'cecr', 'scale', 'ecr.pullsecrets.io/refresh-requested-at=now', '--overwrite');
  await eventually('it has begun', () => writesIn(cluster, 'run-', mark).length > 0);
  const latencies = await newNamespaces();
  const refreshedMeanwhile = writesIn(cluster, 'run-', mark).length;
  const isBusy = refreshedMeanwhile < N;
  const p99 = percentile(latencies, 0.99);
  add(`${NEW_EACH_SECOND} new namespaces a second, served p50`, `${percentile(latencies, 0.5).toFixed(0)} ms`);
  add('… p99, while all others are refreshed', `${p99.toFixed(0)} ms`, '< 1,000 ms', p99 < 1_000 && isBusy);
  await eventually('all are refreshed', () => writesIn(cluster, 'run-', mark).length >= N, 1_800_000);
  const refresh = writesIn(cluster, 'run-', mark);
  add('API writes per namespace, refresh', (refresh.length / N).toFixed(2), '1.00', refresh.length === N);
  add('refresh all, at 50 a second', `${(spanOf(refresh) / 1_000).toFixed(0)} s`);
  add('resident memory after it', mebibytes(operator.memory()));
  await operator.stop();

  step('a restart');
  const again = await restart('restart');
  add('restart: from its start until it leads and has looked at all', `${again.seconds.toFixed(1)} s`);
  addCost(again);
  add('… resident memory', mebibytes(again.memory));

  step(`${FOREIGN} foreign Secrets of 100 kB`);
  const data = { blob: Buffer.alloc(100_000, 7).toString('base64') };
  await inParallel(names('foreign', FOREIGN), (name) =>
    admin.create({ apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace: 'default' }, data }),
  );
  const beside = await restart('beside');
  const more = beside.memory - again.memory;
  add(`beside ${FOREIGN} foreign Secrets of 100 kB: restart`, `${beside.seconds.toFixed(1)} s`);
  addCost(beside);
  add('… memory more', mebibytes(more), '≤ 20 MiB', more <= 20 * 2 ** 20);
} finally {
  await ecr.close();
  await cluster.stop();
}

const report = reportOf(N, figures);
if (flags.write) writeFileSync(`${root}docs/scale.md`, scaleMarkdown(report));
printReport(report);
process.exit(figures.some(({ isMet }) => isMet === false) ? 1 : 0);

function vitalsFile(name: string): string {
  return join(cluster.dir, `vitals-${name}.jsonl`);
}

async function start(name: string) {
  const env = vitalsEnv(vitalsFile(name), { ...ecr.env, ...imageEnv });
  const operator = await startOperator({ cluster, env, main: `${root}dist/ecr-pull-secrets.js` });
  await leaderOf([operator]);
  return operator;
}

async function restart(name: string) {
  const [mark, calls, begun] = [cluster.auditMark(), ecr.calls.length, performance.now()];
  const operator = await start(name);
  await eventually(
    'it has looked at all',
    async () => ((await operator.metric('ecr_pull_secrets_namespaces{resource="scale",state="ready"}')) ?? 0) >= N,
  );
  const seconds = (performance.now() - begun) / 1_000;
  await sleep(5_000);
  const memory = operator.memory();
  await operator.stop();
  return { seconds, memory, writes: writesIn(cluster, '', mark).length, calls: ecr.calls.length - calls };
}

function addCost({ writes, calls }: { writes: number; calls: number }): void {
  add('… API writes and AWS calls', `${writes} and ${calls}`, '0 and 0', writes + calls === 0);
}

function lag(name: string): string {
  const delays = readVitals(vitalsFile(name)).map(({ lagMs }) => lagMs);
  return `${percentile(delays, 0.99).toFixed(0)} ms`;
}

async function settled(count: number): Promise<void> {
  await admin.waitFor<{ status?: { namespacesReady?: string } }>(
    RESOURCE,
    ({ status }) => status?.namespacesReady === `${count}/${count}`,
    1_800_000,
  );
}

async function rawWritesPerSecond(): Promise<number> {
  const alone = await startCluster();
  try {
    await installDeploy(alone);
    await createNamespaces(alone, { prefix: 'raw', count: RAW, accounts: ACCOUNTS.slice(1) });
    const mark = alone.auditMark();
    await rawWrites(await alone.clientFor(operatorAccount), names('raw', RAW), { auth: AUTH, accounts: ACCOUNTS });
    const writes = await eventually('the audit log has them', () => {
      const found = writesIn(alone, 'raw-', mark);
      return found.length >= WRITES * RAW && found;
    });
    return writes.length / (spanOf(writes) / 1_000);
  } finally {
    await alone.stop();
  }
}

/** From a namespace's creation until its Secret is there; ms. */
async function newNamespaces(): Promise<number[]> {
  const seen = new Appearances();
  await seen.watch(admin, '/api/v1/secrets?watch=1&fieldSelector=metadata.name%3Decr-pull', ({ metadata }) => [
    metadata.namespace ?? '',
  ]);
  const latencies: Promise<number>[] = [];
  for (const name of names('new', NEW_EACH_SECOND * NEW_SECONDS)) {
    const begun = performance.now();
    void admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    latencies.push(seen.of(name).then((at) => at - begun));
    await sleep(1_000 / NEW_EACH_SECOND);
  }
  return Promise.all(latencies);
}
