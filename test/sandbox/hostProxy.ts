import { createServer, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';

/**
 * An HTTP proxy that opens each tunnel to the loopback port which stands for the host's name: with it in HTTPS_PROXY, the
 * operator asks a registry by its true ECR name, TLS and all, and nothing leaves the machine.
 */
export class HostProxy {
  /** Every CONNECT, as it was asked for: `HOST:443`. */
  readonly asked: string[] = [];
  readonly #server: Server;
  readonly #portOf: (host: string) => number | null;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, portOf: (host: string) => number | null) {
    this.#server = server;
    this.#portOf = portOf;
  }

  static async start(portOf: (host: string) => number | null): Promise<HostProxy> {
    const server = createServer((_, response) => void response.writeHead(405).end());
    const proxy = new HostProxy(server, portOf);
    server.on('connect', (request: IncomingMessage, socket: Socket) => proxy.#tunnel(request, socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #tunnel({ url = '' }: IncomingMessage, client: Socket): void {
    this.asked.push(url);
    const port = this.#portOf(url.replace(/:443$/, ''));
    this.#keep(client);
    if (port === null) return void client.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
    const server = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      client.pipe(server).pipe(client);
    });
    this.#keep(server);
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.once('error', end).once('close', end);
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
