import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';

import type { Clock } from '../../src/clock.ts';
import { KubeClient } from '../../src/kube/client.ts';
import { connect, type Connection } from '../../src/kube/connection.ts';
import { FakeClock } from '../fakeClock.ts';

export type Handler = (request: IncomingMessage & { url: string; body: string }, response: ServerResponse) => void;

export interface TestServer {
  readonly url: string;
  readonly port: number;
  readonly sockets: Set<Socket>; // open ones
  connections: number; // ever made
  readonly requests: string[]; // `GET /path?query`
  handle: Handler;
}

export const directory = mkdtempSync(path.join(tmpdir(), 'kube-test-'));

let files = 0;
export function writeFile(content: string): string {
  const file = path.join(directory, `file-${(files += 1)}`);
  writeFileSync(file, content);
  return file;
}

let made: { certFile: string; keyFile: string } | null = null;
/** For localhost, 127.0.0.1 and ::1; its own CA. */
export function certificate(): { certFile: string; keyFile: string } {
  if (made !== null) return made;
  const [certFile, keyFile] = [path.join(directory, 'tls.crt'), path.join(directory, 'tls.key')];
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'].concat(
      ['-keyout', keyFile, '-out', certFile, '-subj', '/CN=test'],
      ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1'],
    ),
    { stdio: 'ignore' },
  );
  made = { certFile, keyFile };
  return made;
}

/** On loopback and port 0; closed when the test ends. */
export async function startServer(
  handle: Handler,
  { tls = false, host = '127.0.0.1' }: { tls?: boolean; host?: string } = {},
): Promise<TestServer> {
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const url = request.url ?? '';
      server.requests.push(`${request.method} ${decodeURIComponent(url)}`);
      server.handle(Object.assign(request, { url, body: Buffer.concat(parts).toString() }), response);
    });
  };
  const http = tls
    ? createHttpsServer(
        { cert: readFileSync(certificate().certFile), key: readFileSync(certificate().keyFile) },
        listener,
      )
    : createHttpServer(listener);
  http.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => http.listen(0, host, resolve));
  const { port } = http.address() as AddressInfo;
  const name = host.includes(':') ? `[${host}]` : host;
  const server: TestServer = {
    url: `${tls ? 'https' : 'http'}://${name}:${port}`,
    port,
    sockets: new Set(),
    connections: 0,
    requests: [],
    handle,
  };
  http.on(tls ? 'secureConnection' : 'connection', (socket: Socket) => {
    server.connections += 1;
    server.sockets.add(socket);
    socket.on('close', () => server.sockets.delete(socket));
  });
  onTestFinished(async () => {
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });
  return server;
}

export function kubeconfig(server: string, o: { cluster?: object; user?: object } = {}): string {
  const ca = server.startsWith('https') ? { 'certificate-authority': certificate().certFile } : {};
  return writeFile(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace: 'here' } }],
      clusters: [{ name: 'test', cluster: { server, ...ca, ...o.cluster } }],
      users: [{ name: 'test', user: o.user ?? { token: 'a-token' } }],
    }),
  );
}

export interface LogLine {
  level: string;
  fields: Record<string, unknown>;
  message: string;
}

export class TestLog {
  readonly lines: LogLine[] = [];
  debug(fields: object, message: string): void {
    this.#add('debug', fields, message);
  }
  info(fields: object, message: string): void {
    this.#add('info', fields, message);
  }
  warn(fields: object, message: string): void {
    this.#add('warn', fields, message);
  }
  error(fields: object, message: string): void {
    this.#add('error', fields, message);
  }
  #add(level: string, fields: object, message: string): void {
    this.lines.push({ level, fields: { ...fields }, message });
  }
}

export interface TestClient {
  client: KubeClient;
  connection: Connection;
  clock: FakeClock;
  log: TestLog;
  counted: string[]; // `verb code`
}

export function clientOf(connection: Connection, clock: Clock = new FakeClock()): TestClient {
  const log = new TestLog();
  const counted: string[] = [];
  const metrics = { kubeRequest: (verb: string, code: string) => void counted.push(`${verb} ${code}`) };
  const client = new KubeClient({ connection, clock, log, metrics });
  onTestFinished(() => client.close());
  return { client, connection, clock: clock as FakeClock, log, counted };
}

export function clientFor(server: TestServer, o: { clock?: Clock; cluster?: object; user?: object } = {}): TestClient {
  const connection = connect({
    kubeconfig: kubeconfig(server.url, o),
    env: {},
    ...(o.clock && { clock: o.clock }),
  });
  return clientOf(connection, o.clock);
}

export function answer(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

export function statusBody(code: number, reason: string, details: object = {}, message = `it is ${reason}`): object {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code, reason, message, details };
}

/** Until it holds, in real time: sockets and servers are real here. */
export async function until(holds: () => boolean, what = 'it'): Promise<void> {
  const end = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`${what} did not come true`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export async function failure(promise: Promise<unknown>): Promise<Error & { code: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error & { code: string };
  }
  throw new Error('it did not fail');
}
