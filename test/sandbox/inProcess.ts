import { startOperator, type Operator } from '../../src/cli/run.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import { parseOptions } from '../../src/options.ts';
import type { Sandbox } from './sandbox.ts';

export interface InProcessOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
}

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** The whole operator in this process, as `npm start` would wire it, against the sandbox. */
export interface InProcessOperator extends AsyncDisposable {
  /** Its JSON lines, as text. */
  readonly output: readonly string[];
  lines(): LogLine[];
  metrics(): Promise<string>;
  /** One sample, with labels as printed; null where it is absent. */
  metric(sample: string): Promise<number | null>;
  /** The status and text of `/readyz`. */
  readyz(): Promise<{ status: number; text: string }>;
  /** Ends the work and gives the lease back. */
  stop(): Promise<void>;
}

export async function runOperator(sandbox: Sandbox, o: InProcessOptions = {}): Promise<InProcessOperator> {
  const { args = [], env = {}, clock = systemClock } = o;
  const flags = [
    `--kubeconfig=${sandbox.kubeconfigPath}`,
    `--namespace=${sandbox.namespace}`,
    '--metrics-bind-address=127.0.0.1:0',
    '--health-bind-address=127.0.0.1:0',
    '--log-level=debug',
    ...args,
  ];
  const parsed = parseOptions(flags, { ...sandbox.env, ...env });
  if (parsed.command !== 'run') throw new Error(`not a command that runs: ${parsed.command}`);
  const output: string[] = [];
  const destination = { write: (line: string): void => void output.push(line) };
  const operator = await startOperator(parsed.options, { clock, random: Math.random, destination });
  return wrapped(operator, output);
}

function wrapped(operator: Operator, output: string[]): InProcessOperator {
  let stopped: Promise<void> | null = null;
  const stop = (): Promise<void> => (stopped ??= operator.stop());
  const metrics = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${String(operator.metricsPort)}/metrics`)).text();
  return {
    ...{ output, metrics, stop, [Symbol.asyncDispose]: stop },
    lines: () => output.map((line) => JSON.parse(line) as LogLine),
    async metric(sample) {
      const line = (await metrics()).split('\n').find((line) => line.startsWith(`${sample} `));
      return line === undefined ? null : Number(line.slice(sample.length + 1));
    },
    async readyz() {
      const answer = await fetch(`http://127.0.0.1:${String(operator.healthPort)}/readyz`);
      return { status: answer.status, text: await answer.text() };
    },
  };
}
