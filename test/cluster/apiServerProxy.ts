import { readFileSync } from 'node:fs';
import { Agent, createServer, request, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Socket, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Cluster } from './cluster.ts';

export interface ProxiedRequest {
  method: string;
  path: string; // with the query
  isWatch: boolean;
  accept: string; // which tells whole objects from their metadata alone
}

export interface InjectedAnswer {
  status: number;
  headers?: Record<string, string>;
  body?: unknown; // an object becomes JSON
}

/**
 * Stands before the API server under its own certificate, and does what bad networks and busy servers do. Give its `url`
 * to the operator as `server`.
 */
export class ApiServerProxy {
  readonly url: string;
  readonly requests: (ProxiedRequest & { time: number })[] = [];
  /** What is answered in place of the API server; null passes the request on. */
  inject: (request: ProxiedRequest) => InjectedAnswer | null = () => null;
  /** Every watch is ended so long (ms) after its beginning: as a server does it, or by a reset. */
  endWatches: { afterMs: number; by: 'end' | 'reset' } | null = null;
  readonly #server: Server;
  readonly #upstream: URL;
  readonly #agent: Agent;
  readonly #streams = new Set<{ answer: IncomingMessage; response: ServerResponse }>();
  readonly #connections = new Map<number, Socket>(); // by the client's port: a TLS socket itself cannot be reset

  private constructor(server: Server, cluster: Cluster) {
    this.#server = server;
    this.#upstream = new URL(cluster.server);
    this.#agent = new Agent({ keepAlive: true, ca: cluster.ca });
    this.url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(cluster: Cluster): Promise<ApiServerProxy> {
    const key = readFileSync(join(cluster.dir, 'certs/apiserver.key'));
    const server = createServer({ key, cert: cluster.ca, keepAliveTimeout: 120_000 });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = new ApiServerProxy(server, cluster);
    server.on('connection', (socket) => proxy.#keep(socket));
    server.on('request', (incoming, response) => proxy.#pass(incoming, response));
    return proxy;
  }

  /**
   * Open answers (the watches) go silent for ever: no byte and no end comes any more, as behind a firewall that forgot
   * the connection. New requests work. How many it were.
   */
  silence(): number {
    const streams = [...this.#streams];
    this.#streams.clear();
    for (const { answer, response } of streams) {
      answer.unpipe(response);
      answer.destroy();
    }
    return streams.length;
  }

  /** Cuts every connection. */
  reset(): void {
    this.#server.closeAllConnections();
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#agent.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #pass(incoming: IncomingMessage, response: ServerResponse): void {
    const { method = '', url: path = '' } = incoming;
    const { accept = '' } = incoming.headers;
    const asked = { method, path, isWatch: /[?&]watch=(1|true)\b/.test(path), accept };
    this.requests.push({ ...asked, time: Date.now() });
    const injected = this.inject(asked);
    if (injected !== null) {
      incoming.resume();
      const isText = typeof injected.body === 'string';
      const contentType = isText ? 'text/html' : 'application/json';
      response.writeHead(injected.status, { 'content-type': contentType, ...injected.headers });
      response.end(isText ? injected.body : JSON.stringify(injected.body ?? {}));
      return;
    }
    const { hostname, port } = this.#upstream;
    const inner = request({ hostname, port, method, path, headers: incoming.headers, agent: this.#agent }, (answer) => {
      const stream = { answer, response };
      this.#streams.add(stream);
      response.once('close', () => this.#streams.delete(stream));
      answer.once('error', () => this.#streams.has(stream) && response.destroy());
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
      if (asked.isWatch) this.#endLater(stream);
    });
    inner.once('error', () => response.headersSent || response.destroy());
    response.once('close', () => inner.destroy());
    incoming.pipe(inner);
  }

  #keep(socket: Duplex): void {
    if (!(socket instanceof Socket)) return;
    const { remotePort = 0 } = socket;
    this.#connections.set(remotePort, socket);
    socket.once('close', () => this.#connections.delete(remotePort));
  }

  #endLater({ answer, response }: { answer: IncomingMessage; response: ServerResponse }): void {
    if (this.endWatches === null) return;
    const { afterMs, by } = this.endWatches;
    const timer = setTimeout(() => {
      answer.unpipe(response);
      if (by === 'end') response.end();
      else this.#connections.get(response.socket?.remotePort ?? 0)?.resetAndDestroy();
    }, afterMs);
    response.once('close', () => clearTimeout(timer));
  }
}
