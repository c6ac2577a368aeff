import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { randomInt } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const refused = 5; // what a name server says of names that are none of its own
const failed = 2; // SERVFAIL
const typeA = 1;

/** A name server on an address of its own of the loopback, for processes that are started by `command`. */
export class NameServer {
  readonly address: string;
  /** Name → address. */
  readonly names = new Map<string, string>();
  /** Of these names it says SERVFAIL. */
  readonly broken = new Set<string>();
  /** How long (ms) the answers for a name take. */
  readonly delaysMs = new Map<string, number>();
  readonly asked: string[] = [];
  #socket: Socket | null = null;

  private constructor(address: string) {
    this.address = address;
  }

  static async start(): Promise<NameServer> {
    const server = new NameServer(`127.53.${randomInt(1, 255)}.${randomInt(1, 255)}`);
    await server.begin();
    return server;
  }

  async begin(): Promise<void> {
    const socket = createSocket('udp4');
    socket.on('message', (question, from) => void this.#answer(question, from).catch(() => {}));
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(53, this.address, resolve);
    });
    this.#socket = socket;
  }

  /** Nobody listens there any more. */
  async end(): Promise<void> {
    const socket = this.#socket;
    this.#socket = null;
    await new Promise<void>((resolve) => (socket === null ? resolve() : socket.close(() => resolve())));
  }

  /**
   * Begins the command line of a process that asks this server and no other, in a mount namespace: for that the files of
   * the resolver lie in the folder.
   */
  command(dir: string): string[] {
    const files = {
      '/etc/resolv.conf': `nameserver ${this.address}\noptions timeout:8 attempts:2\n`,
      '/etc/hosts': '127.0.0.1 localhost\n',
      '/etc/nsswitch.conf': 'hosts: files dns\n',
    };
    const mounts = Object.entries(files).map(([file, text]) => {
      const own = join(dir, file.replaceAll('/', '_'));
      writeFileSync(own, text);
      return `mount --bind '${own}' ${file}`;
    });
    return ['unshare', '--mount', 'sh', '-c', `${mounts.join(' && ')} && exec "$@"`, 'sh'];
  }

  async #answer(question: Buffer, { address, port }: RemoteInfo): Promise<void> {
    const { name, type, end } = questionIn(question);
    this.asked.push(name);
    await sleep(this.delaysMs.get(name) ?? 0);
    const known = this.names.get(name);
    const code = this.broken.has(name) ? failed : known === undefined ? refused : 0;
    const record = code === 0 && type === typeA && known !== undefined ? recordOf(known) : null;
    const head = Buffer.from(question.subarray(0, 12));
    head.writeUInt16BE(0x8180 | code, 2); // an answer, recursion was available
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(record === null ? 0 : 1, 6);
    head.writeUInt32BE(0, 8);
    this.#socket?.send(Buffer.concat([head, question.subarray(12, end), record ?? Buffer.alloc(0)]), port, address);
  }
}

function questionIn(message: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = message.readUInt8(at); length > 0; length = message.readUInt8(at)) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: message.readUInt16BE(at + 1), end: at + 5 };
}

/** An address for the name that was asked for, not to be kept. */
function recordOf(address: string): Buffer {
  const head = Buffer.from([0xc0, 12, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4]);
  return Buffer.concat([head, Buffer.from(address.split('.').map(Number))]);
}
