import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

interface End {
  host: string;
  port: number;
}

/**
 * Passes bytes on to another port. While it is paused every connection stays open, new ones are taken, and nothing comes
 * through in either direction; afterwards everything does.
 */
export class TcpRelay {
  readonly host: string;
  readonly port: number;
  readonly #server: Server;
  readonly #target: End;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #isPaused = false;

  private constructor(server: Server, target: End) {
    const { address, port } = server.address() as AddressInfo;
    this.#server = server;
    this.#target = target;
    this.host = address;
    this.port = port;
  }

  /** Listens on any port of 127.0.0.1 unless told. */
  static async start(target: End, o: Partial<End> = {}): Promise<TcpRelay> {
    const server = createServer({ allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(o.port ?? 0, o.host ?? '127.0.0.1', resolve);
    });
    const relay = new TcpRelay(server, target);
    server.on('connection', (socket) => relay.#take(socket));
    return relay;
  }

  pause(): void {
    this.#isPaused = true;
    for (const [one, other] of this.#pairs) {
      one.unpipe(other);
      other.unpipe(one);
    }
  }

  resume(): void {
    if (!this.#isPaused) return; // what is joined twice comes twice
    this.#isPaused = false;
    for (const pair of this.#pairs) join(pair);
  }

  /** Cuts every connection. */
  reset(): void {
    for (const [one] of this.#pairs) one.resetAndDestroy();
  }

  async close(): Promise<void> {
    for (const [one] of this.#pairs) one.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take(one: Socket): void {
    const other = connect({ ...this.#target, allowHalfOpen: true });
    const pair = [one, other] as const;
    this.#pairs.add(pair);
    for (const socket of pair) {
      socket.once('error', () => {}); // told by its close
      socket.once('close', () => {
        this.#pairs.delete(pair);
        for (const either of pair) either.destroy();
      });
    }
    if (!this.#isPaused) join(pair);
  }
}

function join([one, other]: readonly [Socket, Socket]): void {
  one.pipe(other);
  other.pipe(one);
}
