import { readFileSync } from 'node:fs';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Cluster } from './cluster.ts';
import { pushImage, startRegistry } from './registry.ts';
import { staticImage } from './staticImage.ts';

/** The registry's name in pods. */
export const ecrHost = '123456789012.dkr.ecr.us-east-1.amazonaws.com';

export interface Visit {
  time: number; // ms
  method: string;
  path: string;
  /** Which kind of token was shown. Clients ask without one first, and show theirs after the 401. */
  shown: 'none' | 'live' | 'expired' | 'unknown';
  status: number;
}

export type TokenJudge = (auth: string) => 'live' | 'expired' | 'unknown';

/** A real registry behind a door that lets in live tokens only, and answers the others as ECR does. */
export class Door {
  readonly url: string;
  readonly visits: Visit[] = [];
  readonly #server: Server;
  readonly #registry: URL;
  readonly #judge: TokenJudge;
  readonly #bin: string;

  private constructor(o: { server: Server; registry: string; judge: TokenJudge; bin: string }) {
    this.#server = o.server;
    this.#registry = new URL(o.registry);
    this.#judge = o.judge;
    this.#bin = o.bin;
    this.url = `http://127.0.0.1:${(o.server.address() as AddressInfo).port}`;
  }

  /** Starts the registry and the door; a cluster with a node pulls `host` through it from then on. */
  static async open(o: { cluster: Cluster; judge: TokenJudge; host?: string }): Promise<Door> {
    const { cluster, judge, host = ecrHost } = o;
    const registry = await startRegistry(cluster.ledger);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const door = new Door({ server, registry, judge, bin: cluster.bin });
    server.on('request', (request, response) => door.#visit(request, response));
    cluster.node?.routeRegistry(host, door.url);
    return door;
  }

  /** Pushes an image that waits for SIGTERM, past the door; the reference to use in a pod. */
  async push(repository = 'app', tag = '1', host = ecrHost): Promise<string> {
    const image = staticImage(readFileSync(join(this.#bin, 'pause')), `${repository}:${tag}`);
    await pushImage(this.#registry.origin, repository, tag, image);
    return `${host}/${repository}:${tag}`;
  }

  /** How often tokens of a kind were shown since a time (ms). */
  count(shown: Visit['shown'], since = 0): number {
    return this.visits.filter((visit) => visit.shown === shown && visit.time >= since).length;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #visit(incoming: IncomingMessage, response: ServerResponse): void {
    const shown = this.#shownBy(incoming);
    const visit = { time: Date.now(), method: incoming.method ?? '', path: incoming.url ?? '', shown, status: 0 };
    this.visits.push(visit);
    response.once('close', () => (visit.status = response.statusCode));
    if (shown === 'live') this.#letIn(incoming, response);
    else refuse(shown, incoming, response);
  }

  #shownBy(incoming: IncomingMessage): Visit['shown'] {
    const [scheme, auth = ''] = (incoming.headers.authorization ?? '').split(' ');
    if (scheme === '') return 'none';
    return scheme === 'Basic' ? this.#judge(auth) : 'unknown';
  }

  #letIn(incoming: IncomingMessage, response: ServerResponse): void {
    const { hostname, port } = this.#registry;
    const { method, url: path, headers } = incoming;
    const { authorization: _, ...rest } = headers;
    const inner = request({ hostname, port, method, path, headers: rest }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    inner.once('error', () => response.destroy());
    response.once('close', () => inner.destroy());
    incoming.pipe(inner);
  }
}

/** Without a token, or with one that it never made, ECR says 401 and asks for Basic; an expired one is 403. */
function refuse(shown: 'none' | 'expired' | 'unknown', incoming: IncomingMessage, response: ServerResponse): void {
  incoming.resume();
  response.setHeader('docker-distribution-api-version', 'registry/2.0');
  if (shown === 'expired') {
    const message = 'Your authorization token has expired. Reauthenticate and try again.';
    response.writeHead(403, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ errors: [{ code: 'DENIED', message }] }));
    return;
  }
  const challenge = `Basic realm="https://${ecrHost}/",service="ecr.amazonaws.com"`;
  response.writeHead(401, { 'content-type': 'text/plain', 'www-authenticate': challenge });
  response.end('Not Authorized\n');
}
