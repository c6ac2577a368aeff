import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import manifest from '../../package.json' with { type: 'json' };
import type { Sandbox } from '../sandbox/sandbox.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const nodeFlags = manifest.scripts.start.split(' ').slice(1, -1);
const LINES_KEPT = 400;

/** The operator as `npm start` runs it, against the sandbox and with the rights of its own kubeconfig. */
export class OperatorProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  readonly #lines: string[] = [];

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => this.#keep(text));
    }
  }

  static start(sandbox: Sandbox, env: Readonly<Record<string, string>> = {}): OperatorProcess {
    const flags = [
      `--kubeconfig=${sandbox.kubeconfigPath}`,
      `--namespace=${sandbox.namespace}`,
      '--metrics-bind-address=127.0.0.1:0',
      '--health-bind-address=127.0.0.1:0',
    ];
    // Nothing of this machine's own AWS set-up or proxies is seen by it.
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(aws_|ecr_pull_secrets_|https?_proxy$|no_proxy$|node_options$)/i.test(name),
    );
    const child = spawn(process.execPath, [...nodeFlags, main, ...flags], {
      env: { ...Object.fromEntries(inherited), ...sandbox.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return new OperatorProcess(child);
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** What it logged last. */
  tail(count: number): string[] {
    return this.#lines.slice(-count);
  }

  /** SIGTERM, as a kubelet ends a pod; its exit code. */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    return this.#exited;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #keep(text: string): void {
    this.#lines.push(...text.split('\n').filter((line) => line !== ''));
    this.#lines.splice(0, Math.max(0, this.#lines.length - LINES_KEPT));
  }
}
