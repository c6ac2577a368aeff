import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { freePort } from '../cluster/freePort.ts';

/**
 * A server on a free port of 127.0.0.1 that can go down and come up again on the same port. Down, its port is closed
 * and every connection cut: clients see ECONNREFUSED, as of a machine whose service has ended.
 */
export class LoopbackServer {
  readonly #listener: RequestListener;
  readonly #tls: { key: string; cert: string } | undefined;
  #server: Server | null = null;
  #port = 0;

  private constructor(listener: RequestListener, tls?: { key: string; cert: string }) {
    this.#listener = listener;
    this.#tls = tls;
  }

  static async start(listener: RequestListener, tls?: { key: string; cert: string }): Promise<LoopbackServer> {
    const server = new LoopbackServer(listener, tls);
    await server.up();
    return server;
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `${this.#tls ? 'https' : 'http'}://127.0.0.1:${this.#port}`;
  }

  get isUp(): boolean {
    return this.#server !== null;
  }

  async up(): Promise<void> {
    if (this.#server) return;
    // Not one of the kernel's choice: while it is down, those go to whoever connects anywhere.
    this.#port ||= await freePort();
    const server = this.#tls ? createTlsServer(this.#tls, this.#listener) : createServer(this.#listener);
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
  }

  async down(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}
