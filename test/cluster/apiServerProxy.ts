import { readFileSync } from 'node:fs';
import { Agent, createServer, request, type Server } from 'node:https';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { Socket, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from './cluster.ts';

export interface ProxiedRequest {
  method: string;
  path: string; // with the query
  isWatch: boolean;
  accept: string; // which tells whole objects from their metadata alone
}

/** What became of it. */
export interface SeenRequest extends ProxiedRequest {
  time: number; // ms
  endedAt: number | null; // ms; null: it goes on
  status: number | null; // null: no answer, or none yet
  retryAfter: string | null; // as the answer has it
}

export interface InjectedAnswer {
  status: number;
  headers?: Record<string, string>;
  body?: unknown; // an object becomes JSON, a Buffer and a text go as they are
}

/** What is done to one request; all that is named, in this order. */
export interface Fault {
  delayMs?: number;
  /** Before it is forwarded. */
  before?: () => Promise<void> | void;
  /** Another API server of the cluster answers. */
  server?: string;
  /** What it is asked for in place of the path. */
  path?: string;
  /** In place of the API server; then the rest is left out. */
  answer?: InjectedAnswer;
  /** The connection is reset: before anything is forwarded, or when the API server has done its work. */
  drop?: 'request' | 'answer';
  /** When the API server has done its work, before its answer is passed on. */
  after?: () => Promise<void> | void;
  /** What becomes of the answer's body. Where it throws, the connection is reset. */
  body?: (bytes: AsyncIterable<Buffer>) => AsyncIterable<Buffer | string>;
}

/**
 * Stands before the API server under its own certificate, and does what bad networks and busy servers do. Give its `url`
 * to the operator as `server`.
 */
export class ApiServerProxy {
  readonly url: string;
  readonly requests: SeenRequest[] = [];
  /** What is answered in place of the API server; null passes the request on. */
  inject: (request: ProxiedRequest) => InjectedAnswer | null = () => null;
  /** The same with everything else that a network and a server can do. */
  fault: (request: ProxiedRequest) => Fault | null = () => null;
  /** Who renews the Lease through this proxy, by its last try. */
  holder: string | null = null;
  /** Every watch is ended so long (ms) after its beginning: as a server does it, or by a reset. */
  endWatches: { afterMs: number; by: 'end' | 'reset' } | null = null;
  readonly #server: Server;
  readonly #upstream: URL;
  readonly #agent: Agent;
  readonly #streams = new Set<{ asked: ProxiedRequest; answer: IncomingMessage; response: ServerResponse }>();
  readonly #silent = new Set<ServerResponse>();
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
      this.#silent.add(response);
      response.once('close', () => this.#silent.delete(response));
    }
    return streams.length;
  }

  /** The end of the silence: the connections of the answers that went silent are cut. */
  resetSilent(): void {
    for (const response of this.#silent) this.#reset(response);
  }

  /** Ends these open answers (watches) cleanly, as a server does when their time is over. */
  endStreams(which: (asked: ProxiedRequest) => boolean): void {
    for (const { asked, answer, response } of this.#streams) {
      if (!which(asked)) continue;
      answer.unpipe(response);
      response.end();
      answer.destroy();
    }
  }

  /** Cuts every connection. */
  reset(): void {
    this.#server.closeAllConnections();
  }

  async close(): Promise<void> {
    this.#agent.destroy();
    const closed = new Promise((resolve) => this.#server.close(resolve));
    // More than once: one whose handshake is under way is none yet, and a watch on it would last.
    const closing = setInterval(() => this.#server.closeAllConnections(), 50);
    await closed;
    clearInterval(closing);
  }

  #pass(incoming: IncomingMessage, response: ServerResponse): void {
    const { method = '', url: path = '' } = incoming;
    const { accept = '' } = incoming.headers;
    const asked = { method, path, isWatch: /[?&]watch=(1|true)\b/.test(path), accept };
    const seen = this.#note(asked, response);
    const injected = this.inject(asked);
    const fault = injected === null ? this.fault(asked) : { answer: injected };
    void this.#carryOut(fault ?? {}, asked, { incoming, response, seen }).catch(() => this.#reset(response));
  }

  #note(asked: ProxiedRequest, response: ServerResponse): SeenRequest {
    const seen: SeenRequest = { ...asked, time: Date.now(), endedAt: null, status: null, retryAfter: null };
    this.requests.push(seen);
    response.once('close', () => {
      seen.endedAt = Date.now();
      if (!response.headersSent) return;
      seen.status = response.statusCode;
      seen.retryAfter = response.getHeader('retry-after')?.toString() ?? null;
    });
    return seen;
  }

  async #carryOut(
    fault: Fault,
    asked: ProxiedRequest,
    { incoming, response, seen }: { incoming: IncomingMessage; response: ServerResponse; seen: SeenRequest },
  ): Promise<void> {
    const body = await buffer(incoming);
    if (/\/leases(\/|$)/.test(asked.path)) this.#noteHolder(body);
    if (fault.delayMs !== undefined) await sleep(fault.delayMs);
    await fault.before?.();
    if (fault.answer !== undefined) return answerWith(fault.answer, response);
    if (fault.drop === 'request') return this.#reset(response);
    const to = { server: fault.server ?? this.#upstream, method: asked.method, path: fault.path ?? asked.path };
    const answer = await this.#forward(to, { headers: incoming.headers, body }, response);
    if (answer === null) return;
    await fault.after?.();
    if (fault.drop === 'answer') return this.#reset(response);
    const stream = { asked, answer, response };
    this.#streams.add(stream);
    response.once('close', () => this.#streams.delete(stream));
    answer.once('error', () => this.#streams.has(stream) && response.destroy());
    response.writeHead(answer.statusCode ?? 502, withoutLength(answer.headers, fault.body !== undefined));
    response.flushHeaders();
    seen.status = response.statusCode;
    if (asked.isWatch) this.#endLater(stream);
    if (fault.body === undefined) answer.pipe(response);
    else await pass(fault.body(answer as AsyncIterable<Buffer>), response);
  }

  /** The head of the API server's answer; null where either side has gone away. */
  #forward(
    { server, method, path }: { server: string | URL; method: string; path: string },
    { headers, body }: { headers: IncomingHttpHeaders; body: Buffer },
    response: ServerResponse,
  ): Promise<IncomingMessage | null> {
    const { hostname, port } = new URL(server);
    return new Promise((resolve) => {
      const inner = request({ hostname, port, method, path, headers, agent: this.#agent }, resolve);
      inner.once('error', () => {
        if (!response.headersSent) response.destroy();
        resolve(null);
      });
      response.once('close', () => inner.destroy());
      inner.end(body);
    });
  }

  #noteHolder(body: Buffer): void {
    this.holder = /"holderIdentity":"([^"]+)"/.exec(body.toString('utf8'))?.[1] ?? this.holder;
  }

  #reset(response: ServerResponse): void {
    this.#connections.get(response.socket?.remotePort ?? 0)?.resetAndDestroy();
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
      else this.#reset(response);
    }, afterMs);
    response.once('close', () => clearTimeout(timer));
  }
}

function answerWith({ status, headers, body }: InjectedAnswer, response: ServerResponse): void {
  const isRaw = typeof body === 'string' || Buffer.isBuffer(body);
  response.writeHead(status, { 'content-type': isRaw ? 'text/html' : 'application/json', ...headers });
  response.end(isRaw ? body : JSON.stringify(body ?? {}));
}

function withoutLength(headers: IncomingHttpHeaders, isChanged: boolean): IncomingHttpHeaders {
  const { 'content-length': _, ...rest } = headers;
  return isChanged ? rest : headers;
}

async function pass(bytes: AsyncIterable<Buffer | string>, response: ServerResponse): Promise<void> {
  for await (const part of bytes) response.write(part);
  response.end();
}
