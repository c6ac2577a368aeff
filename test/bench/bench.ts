// `npm run bench [-- --namespaces=5000] [-- --write]`: what the operator costs on a real control plane, as ratios to a
// limit measured in the same run. Prints a table, writes test/bench/results.json, and with --write docs/performance.md.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startCluster, type Cluster } from '../cluster/cluster.ts';
import { eventually } from '../cluster/eventually.ts';
import { installDeploy, leaderOf, operatorAccount, startOperator } from '../cluster/operator.ts';
import { StandInEcr } from '../cluster/standInEcr.ts';
import { Appearances } from './appearances.ts';
import { createNamespaces, names, spanOf, writesIn as writesOn } from './fanOut.ts';
import { imageEnv } from './imageEnv.ts';
import { idleCpuPercent, mebibytes, percentile } from './processFigures.ts';
import { rawWrites } from './rawWrites.ts';
import { printReport, reportOf, reportMarkdown, type Figure } from './report.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { values: flags } = parseArgs({
  options: { namespaces: { type: 'string', default: '1000' }, write: { type: 'boolean', default: false } },
});
const N = Number(flags.namespaces);
const HOST = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
const RESOURCE = '/apis/ecr.pullsecrets.io/v1alpha1/clusterecrpullsecrets/bench';
const NEW_NAMESPACES = 40;
const AUTH = Buffer.from(`AWS:${'x'.repeat(2_000)}`).toString('base64');

const figures: Figure[] = [];
const step = (text: string): void => void process.stderr.write(`${text}\n`);

step('building the bundle');
execFileSync(process.execPath, [`${root}scripts/bundle.ts`], { stdio: 'ignore' });
const bundle = `${root}dist/ecr-pull-secrets.js`;

step('the raw limit, on a control plane of its own');
const rawBefore = await rawAlone();

const cluster = await startCluster();
const ecr = await StandInEcr.start();
try {
  step(`a control plane with ${N} namespaces`);
  await installDeploy(cluster);
  await createNamespaces(cluster, { prefix: 'run', count: N });

  step('the operator');
  const operator = await startOperator({ cluster, env: { ...ecr.env, ...imageEnv }, main: bundle });
  await leaderOf([operator]);
  const idleRss = operator.memory();
  let mark = cluster.auditMark();
  await cluster.admin.create({
    apiVersion: 'ecr.pullsecrets.io/v1alpha1',
    kind: 'ClusterECRPullSecret',
    metadata: { name: 'bench' },
    spec: {
      registries: [{ host: HOST }],
      namespaces: { names: ['run-*', 'new-*'] },
      verification: { mode: 'Disabled' },
    },
  });
  await settled(N);
  const first = await eventually('the audit log has them', () => {
    const found = writesIn('run-', mark);
    return found.length >= 2 * N && found;
  });
  const firstCalls = ecr.calls.length;
  const servedMs = spanOf(first);

  const perNamespace = first.length / N;
  const rss = operator.memory();
  step('a refresh');
  await sleep(10_000); // never within 10 s of the last
  mark = cluster.auditMark();
  await cluster.kubectl('annotate', 'cecr', 'bench', 'ecr.pullsecrets.io/refresh-requested-at=now', '--overwrite');
  await eventually('all are refreshed', () => writesIn('run-', mark).length >= N && settledWrites(mark), 180_000);
  const refresh = writesIn('run-', mark);
  const refreshCalls = ecr.calls.length - firstCalls;
  step('idle');
  const idle = await idleCpuPercent(operator.pid, 20_000);

  add('API writes per namespace, first', perNamespace.toFixed(2), '2.00', perNamespace === 2);
  add('AWS calls', String(firstCalls), '1', firstCalls === 1);
  add('resident memory', `${mebibytes(rss)} (${(rss / 1e6).toFixed(0)} MB)`, '≤ 130 MB', rss <= 130e6);
  add('… before the resource', mebibytes(idleRss), '');

  add('API writes per namespace, refresh', (refresh.length / N).toFixed(2), '1.00', refresh.length === N);
  add('refresh all, at 50 a second', `${seconds(spanOf(refresh))} s`, '');
  add('AWS calls of a refresh', String(refreshCalls), '1', refreshCalls === 1);
  add('CPU while idle', `${idle.toFixed(2)} % of a core`, '');

  step('new namespaces, one after the other');
  const latency = await newNamespaces();
  const own50 = percentile(latency.defaultAccount, 0.5);
  const served50 = percentile(latency.served, 0.5);
  add('default ServiceAccount appears, p50', `${own50.toFixed(0)} ms`, '');
  const isQuick = served50 <= own50 + 40;
  add('new namespace served, p50', `${served50.toFixed(0)} ms`, `≤ ${(own50 + 40).toFixed(0)} ms`, isQuick);
  add('new namespace served, p97', `${percentile(latency.served, 0.97).toFixed(0)} ms`, '');

  step('a restart');
  await operator.stop();
  mark = cluster.auditMark();
  const calls = ecr.calls.length;
  const again = await startOperator({ cluster, env: { ...ecr.env, ...imageEnv }, main: bundle });
  await leaderOf([again]);
  await sleep(10_000);
  const writes = writesIn('', mark).length;
  add('AWS calls of a restart', String(ecr.calls.length - calls), '0', ecr.calls.length === calls);
  add('API writes of a restart', String(writes), '0', writes === 0);

  step('1,000 more');
  const before = again.memory();
  await createNamespaces(cluster, { prefix: 'run-more', count: 1_000 });
  await settled(N + NEW_NAMESPACES + 1_000);
  add('memory per 1,000 more namespaces', mebibytes(Math.max(0, again.memory() - before)), '');
  await again.stop();

  step('the raw limit, after');
  const raw = [rawBefore, await rawMsOf(cluster, 'raw')];
  const ratio = servedMs / Math.min(...raw);
  add('serve all namespaces', `${seconds(servedMs)} s`, `raw ${raw.map(seconds).join(' and ')} s`);
  add('… as a ratio to the faster raw run', ratio.toFixed(2), '≤ 1.5, aim 1.2', ratio <= 1.5);
} finally {
  await ecr.close();
  await cluster.stop();
}

const report = reportOf(N, figures);
writeFileSync(`${root}test/bench/results.json`, `${JSON.stringify(report, null, 2)}\n`);
if (flags.write) writeFileSync(`${root}docs/performance.md`, reportMarkdown(report));
printReport(report);
process.exit(figures.some(({ isMet }) => isMet === false) ? 1 : 0);

function add(name: string, value: string, target: string, isMet?: boolean): void {
  figures.push({ name, value, target, ...(isMet !== undefined && { isMet }) });
}

function writesIn(prefix: string, since: number, on = cluster) {
  return writesOn(on, prefix, since);
}

function settledWrites(since: number): boolean {
  const last = writesIn('run-', since).at(-1);
  return last !== undefined && Date.now() - Date.parse(last.stageTimestamp) > 1_500;
}

async function settled(count: number): Promise<void> {
  await cluster.admin.waitFor<{ status?: { namespacesReady?: string } }>(
    RESOURCE,
    ({ status }) => status?.namespacesReady === `${count}/${count}`,
    300_000,
  );
}

async function rawAlone(): Promise<number> {
  const alone = await startCluster();
  try {
    await installDeploy(alone);
    return await rawMsOf(alone, 'raw');
  } finally {
    await alone.stop();
  }
}

async function rawMsOf(on: Cluster, prefix: string): Promise<number> {
  await createNamespaces(on, { prefix, count: N });
  const mark = on.auditMark();
  await rawWrites(await on.clientFor(operatorAccount), names(prefix, N), { auth: AUTH });
  const writes = await eventually('the audit log has them', () => {
    const found = writesIn(`${prefix}-`, mark, on);
    return found.length >= 2 * N && found;
  });
  return spanOf(writes);
}

async function newNamespaces(): Promise<{ defaultAccount: number[]; served: number[] }> {
  const seen = new Appearances();
  await seen.watch(cluster.admin, '/api/v1/serviceaccounts?watch=1', ({ metadata, ['imagePullSecrets']: entries }) => {
    const hasEntry = ((entries ?? []) as { name: string }[]).some(({ name }) => name === 'ecr-pull');
    const key = `${metadata.namespace}/${metadata.name}`;
    return [key, ...(hasEntry ? [`${key}/entry`] : [])];
  });
  await seen.watch(cluster.admin, '/api/v1/secrets?watch=1', ({ metadata }) => [
    `${metadata.namespace}/secret/${metadata.name}`,
  ]);
  const defaultAccount: number[] = [];
  const served: number[] = [];
  for (const name of names('new', NEW_NAMESPACES)) {
    const begun = performance.now();
    await cluster.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    defaultAccount.push((await seen.of(`${name}/default`)) - begun);
    const both = [seen.of(`${name}/default/entry`), seen.of(`${name}/secret/ecr-pull`)];
    served.push(Math.max(...(await Promise.all(both))) - begun);
    await sleep(100);
  }
  return { defaultAccount, served };
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(2);
}
