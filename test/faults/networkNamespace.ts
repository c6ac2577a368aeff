import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { ProcessLedger } from '../cluster/processLedger.ts';

const prefix = 'ecrf';
const nowhere = '02:00:00:00:00:01'; // an address of Ethernet that nobody has

let made = 0;

/**
 * A network namespace with two cables to the machine: one for everything that the operator does, which can be pulled or
 * made to swallow all that is sent, and one by which the test still reaches its health and metrics.
 */
export class NetworkNamespace {
  /** The machine, seen from there. */
  readonly host: string;
  /** The namespace, by the cable that always works. */
  readonly address: string;
  readonly #name: string;
  readonly #net: string; // the first three numbers of its addresses
  readonly #cable: { outer: string; inner: string };

  private constructor(name: string, net: string, cable: { outer: string; inner: string }) {
    this.#name = name;
    this.#net = net;
    this.#cable = cable;
    this.host = `${net}.1`;
    this.address = `${net}.6`;
  }

  /** Why there can be none here; null where there can. */
  static whyNot(): string | null {
    const name = `${prefix}-${process.pid}-try`;
    const { error, status, stderr } = spawnSync('ip', ['netns', 'add', name], { encoding: 'utf8' });
    if (error !== undefined) return error.message;
    if (status !== 0) return stderr.trim();
    ip('netns', 'del', name);
    return null;
  }

  /** It goes with the ledger; those that dead processes left go now. */
  static create(ledger: ProcessLedger): NetworkNamespace {
    removeLeftovers();
    const name = `${prefix}-${process.pid}-${(made += 1)}`;
    const net = freeNet();
    const tag = `${prefix}${net.split('.')[2]}`;
    const cable = { outer: `${tag}a`, inner: `${tag}b` };
    ledger.onClose(`ip netns del ${name}`);
    ip('netns', 'add', name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
    for (const [outer, inner, last] of [[cable.outer, cable.inner, 1] as const, [`${tag}c`, `${tag}d`, 5] as const]) {
      ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', name);
      ip('address', 'add', `${net}.${last}/30`, 'dev', outer);
      ip('-n', name, 'address', 'add', `${net}.${last + 1}/30`, 'dev', inner);
      ip('link', 'set', outer, 'up');
      ip('-n', name, 'link', 'set', inner, 'up');
    }
    return new NetworkNamespace(name, net, cable);
  }

  /** What a command line begins with, to run there. */
  get command(): string[] {
    return ['ip', 'netns', 'exec', this.#name];
  }

  /** The cable is out, as the operator's machine can see: what it begins fails at once, what is open goes on waiting. */
  unplug(): void {
    ip('-n', this.#name, 'link', 'set', this.#cable.inner, 'down');
  }

  plug(): void {
    ip('-n', this.#name, 'link', 'set', this.#cable.inner, 'up');
  }

  /** Nobody sees anything but that no answer comes: each side sends to an address of Ethernet that nobody has. */
  swallow(): void {
    this.#neighbours(nowhere, nowhere);
  }

  deliver(): void {
    const { outer, inner } = this.#cable;
    this.#neighbours(hardwareOf('link', 'show', outer), hardwareOf('-n', this.#name, 'link', 'show', inner));
  }

  #neighbours(machine: string, namespace: string): void {
    const { outer, inner } = this.#cable;
    const at = (address: string, hardware: string, device: string) =>
      ['neigh', 'replace', address, 'lladdr', hardware, 'dev', device, 'nud', 'permanent'] as const;
    ip('-n', this.#name, ...at(`${this.#net}.1`, machine, inner));
    ip(...at(`${this.#net}.2`, namespace, outer));
  }
}

function ip(...args: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr.trim()}`);
  return stdout;
}

function hardwareOf(...args: readonly string[]): string {
  return /link\/ether (\S+)/.exec(ip(...args))?.[1] ?? nowhere;
}

function removeLeftovers(): void {
  const names = ip('netns', 'list').split('\n');
  for (const name of names.map((line) => line.split(' ')[0] ?? '')) {
    const [, pid] = new RegExp(`^${prefix}-(\\d+)-`).exec(name) ?? [];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) ip('netns', 'del', name);
  }
}

/** Of the private 10.213.0.0/16. */
function freeNet(): string {
  const taken = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
  for (;;) {
    const net = `10.213.${randomInt(1, 255)}`;
    if (!taken.some((address) => address.startsWith(`${net}.`))) return net;
  }
}
