import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { request } from 'undici';
import type { Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import { freePort } from './freePort.ts';
import type { StartedProcess } from './processLedger.ts';

export const operatorNamespace = 'ecr-pull-secrets';
export const operatorAccount = { namespace: operatorNamespace, name: 'ecr-pull-secrets' };
/** As the audit log has it. */
export const operatorUser = `system:serviceaccount:${operatorNamespace}:ecr-pull-secrets`;

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Installs `deploy/` as it is. The pods of its Deployment could not run here: the operator runs as a process instead. */
export async function installDeploy(cluster: Cluster): Promise<void> {
  await cluster.kubectl('apply', '--server-side', '-k', `${root}deploy`);
  await cluster.kubectl('--namespace', operatorNamespace, 'scale', 'deployment/ecr-pull-secrets', '--replicas=0');
  await cluster.kubectl('wait', '--for=condition=Established', 'crd/clusterecrpullsecrets.ecr.pullsecrets.io');
  const { namespace, name } = operatorAccount;
  await cluster.admin.waitFor(`/api/v1/namespaces/${namespace}/serviceaccounts/${name}`);
}

export interface OperatorOptions {
  cluster: Cluster;
  env?: Record<string, string>;
  /** Further flags, or other ones: the last of a name wins. */
  args?: readonly string[];
  /** What to run in place of the source tree, such as a bundle. */
  main?: string;
  /** In place of one with a token of the operator's own ServiceAccount. */
  kubeconfig?: string;
  /** Of the API server or of a proxy before it. */
  server?: string;
  /** The name in the API server's certificate, where `server` is another one. */
  tlsServerName?: string;
  /** Surroundings of its own: what its command line begins with, and the address there of its health and metrics. */
  within?: { command: readonly string[]; address?: string };
  /** Not waiting lets a test see what happens before `/readyz`. */
  waitUntilReady?: boolean;
}

export interface LogLine {
  level: string;
  time: string;
  message: string;
  [field: string]: unknown;
}

/** A time in which the process was stopped, ms. */
export interface Still {
  readonly from: number;
  to: number; // Infinity: it still is
}

export interface Operator {
  readonly process: StartedProcess;
  readonly pid: number;
  readonly exited: StartedProcess['exited'];
  /** Everything that it printed, standard error too. */
  output(): string;
  /** Its JSON lines; what is no JSON is left out. */
  logs(predicate?: (line: LogLine) => boolean): LogLine[];
  metrics(): Promise<string>;
  /** One sample of the metrics, such as `ecr_pull_secrets_leader`, with labels as printed; null where it is absent. */
  metric(sample: string): Promise<number | null>;
  /** The status and text of `/healthz` or `/readyz`. */
  health(path: 'healthz' | 'readyz'): Promise<{ status: number; text: string }>;
  waitUntilReady(timeoutMs?: number): Promise<void>;
  /** Resident memory in bytes. */
  memory(): number;
  /** SIGKILL, and gone. */
  kill(): Promise<void>;
  /** SIGTERM, as the kubelet does it; its exit code. */
  stop(): Promise<number | null>;
  /** SIGSTOP: frozen with its connections open. */
  pause(): void;
  readonly stills: readonly Still[];
  /** SIGCONT. */
  cont(): void;
}

let started = 0;

/** Runs the operator as a process of the source tree, with the rights of its own ServiceAccount and no others. */
export async function startOperator(o: OperatorOptions): Promise<Operator> {
  const { cluster } = o;
  const kubeconfig = o.kubeconfig ?? (await cluster.kubeconfigFor(operatorAccount, placeOf(o)));
  const { command = [], address = '127.0.0.1' } = o.within ?? {};
  const health = `${address}:${await freePort()}`;
  const metrics = `${address}:${await freePort()}`;
  const [program = '', ...args] = [
    ...command,
    globalThis.process.execPath,
    '--disable-warning=ExperimentalWarning',
    o.main ?? `${root}src/main.ts`,
    `--kubeconfig=${kubeconfig}`,
    `--namespace=${operatorNamespace}`,
    `--health-bind-address=${health}`,
    `--metrics-bind-address=${metrics}`,
    ...(o.args ?? []),
  ];
  const process = cluster.ledger.start(`operator-${++started}`, program, args, environment(o.env));
  const operator = operatorOf(process, health, metrics);
  if (o.waitUntilReady !== false) await operator.waitUntilReady();
  return operator;
}

function placeOf({ server, tlsServerName }: OperatorOptions): { server?: string; tlsServerName?: string } {
  return { ...(server !== undefined && { server }), ...(tlsServerName !== undefined && { tlsServerName }) };
}

/** Several replicas, started together; which of them leads is theirs to find out. */
export function startReplicas(o: OperatorOptions & { replicas: number }): Promise<Operator[]> {
  return Promise.all(Array.from({ length: o.replicas }, () => startOperator(o)));
}

/** The first of them that holds the lease by its own metric. */
export function leaderOf(operators: readonly Operator[], timeoutMs = 30_000): Promise<Operator> {
  return eventually(
    'one of the replicas leads',
    async () => {
      for (const operator of operators) {
        if (operator.process.isRunning() && (await operator.metric('ecr_pull_secrets_leader')) === 1) return operator;
      }
      return null;
    },
    timeoutMs,
  );
}

/** Nothing of the machine's own AWS set-up or proxies, and no instance metadata, is seen by the operator. */
function environment(env: Record<string, string> = {}): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(aws_|ecr_pull_secrets_|https?_proxy$|no_proxy$|vitest|node_options$)/i.test(name),
  );
  return { ...Object.fromEntries(inherited), NODE_ENV: 'production', AWS_EC2_METADATA_DISABLED: 'true', ...env };
}

function operatorOf(process: StartedProcess, health: string, metrics: string): Operator {
  const output = () => (existsSync(process.logFile) ? readFileSync(process.logFile, 'utf8') : '');
  const fetchText = async (url: string) => {
    const { statusCode, body } = await request(url, { headersTimeout: 2000, bodyTimeout: 2000 });
    return { status: statusCode, text: await body.text() };
  };
  const stills: Still[] = [];
  const readMetrics = async () => (await fetchText(`http://${metrics}/metrics`)).text;
  return {
    process,
    pid: process.pid,
    exited: process.exited,
    output,
    logs: (predicate = () => true) => jsonLines(output()).filter(predicate),
    metrics: readMetrics,
    async metric(sample) {
      const line = (await readMetrics()).split('\n').find((line) => line.startsWith(`${sample} `));
      return line === undefined ? null : Number(line.slice(sample.length + 1));
    },
    health: (path) => fetchText(`http://${health}/${path}`),
    async waitUntilReady(timeoutMs = 60_000) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const answer = await fetchText(`http://${health}/readyz`).catch((error: Error) => error.message);
        if (typeof answer === 'object' && answer.status === 200) return;
        const last = typeof answer === 'object' ? answer.text : answer;
        if (!process.isRunning()) throw new Error(`the operator has ended:\n${tail(output())}`);
        if (performance.now() > deadline) throw new Error(`/readyz: ${last}\n${tail(output())}`);
        await sleep(20);
      }
    },
    memory() {
      const pages = readFileSync(`/proc/${process.pid}/statm`, 'utf8').split(' ')[1];
      return Number(pages) * 4096;
    },
    async kill() {
      process.kill('SIGKILL');
      await process.exited;
    },
    async stop() {
      process.kill('SIGTERM');
      return (await process.exited).code;
    },
    stills,
    pause() {
      stills.push({ from: Date.now(), to: Infinity });
      process.kill('SIGSTOP');
    },
    cont() {
      process.kill('SIGCONT');
      const last = stills.at(-1);
      if (last) last.to = Date.now();
    },
  };
}

function tail(text: string): string {
  return text.split('\n').slice(-30).join('\n');
}

function jsonLines(text: string): LogLine[] {
  const lines: LogLine[] = [];
  for (const line of text.split('\n')) {
    try {
      if (line.startsWith('{')) lines.push(JSON.parse(line) as LogLine);
    } catch {
      // half a line, or no line of ours
    }
  }
  return lines;
}
