import { spawn, type ChildProcess } from 'node:child_process';
import { appendFileSync, mkdirSync, openSync, closeSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface StartedProcess {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Resolves when the process is gone; never rejects. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly isRunning: () => boolean;
  /** Signals this very process; false where it is gone. */
  readonly kill: (signal: NodeJS.Signals) => boolean;
}

/**
 * The processes of one cluster (or registry), and how everything they leave behind is undone.
 *
 * Each start and each clean-up command is written to a ledger before anything else happens, and a keeper process, in a
 * session of its own, undoes the ledger from its end when `close` is called or when this process is gone for whatever
 * reason (Ctrl-C, SIGKILL of a test worker): the keeper sees the end of its standard input. A process is known by its
 * id and its start time, so no other one is ever signalled.
 */
export class ProcessLedger {
  readonly dir: string;
  readonly #file: string;
  readonly #keeper: ChildProcess;
  readonly #keeperExited: Promise<void>;

  constructor(dir: string) {
    this.dir = dir;
    mkdirSync(dir, { recursive: true });
    this.#file = join(dir, 'ledger.jsonl');
    writeFileSync(this.#file, '');
    const keeperLog = openSync(join(dir, 'keeper.log'), 'a');
    const script = fileURLToPath(new URL('keeper.ts', import.meta.url));
    this.#keeper = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, this.#file], {
      detached: true,
      stdio: ['pipe', keeperLog, keeperLog],
      cwd: '/',
    });
    closeSync(keeperLog);
    this.#keeperExited = new Promise((resolve) => this.#keeper.once('exit', () => resolve()));
  }

  /** Starts a program with its output in `DIR/NAME.log` (appended, so that a restart keeps what came before). */
  start(name: string, command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): StartedProcess {
    const logFile = join(this.dir, `${name}.log`);
    const log = openSync(logFile, 'a');
    // A session of its own: Ctrl-C in the terminal reaches the test runner alone, and the keeper decides the order.
    const child = spawn(command, args, { cwd: this.dir, env, detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
      child.once('error', () => resolve({ code: 127, signal: null }));
    });
    const { pid } = child;
    if (pid === undefined) throw new Error(`${command} could not be started: is it installed?`);
    this.#write({ process: name, pid, startTime: startTimeOf(pid) });
    child.unref();
    const isRunning = () => child.exitCode === null && child.signalCode === null;
    return { name, pid, logFile, exited, isRunning, kill: (signal) => isRunning() && child.kill(signal) };
  }

  /** A shell command of the clean-up, run after everything that is started later has been stopped. */
  onClose(command: string): void {
    this.#write({ run: command });
  }

  /** Stops everything and resolves when it is gone. */
  async close(): Promise<void> {
    this.#keeper.stdin?.end();
    await this.#keeperExited;
  }

  #write(entry: LedgerEntry): void {
    appendFileSync(this.#file, `${JSON.stringify(entry)}\n`);
  }
}

export type LedgerEntry = { process: string; pid: number; startTime: string | null } | { run: string };

/** When a process started, in clock ticks since boot (proc(5), field 22); null where it is gone or a zombie. */
export function startTimeOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // starts at field 3, the state
    return fields[0] === 'Z' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}
