import type { IncomingMessage, ServerResponse } from 'node:http';
import { digest, staticImage, type StaticImage } from '../cluster/staticImage.ts';
import type { Certificate } from './certificate.ts';
import { BearerTokens, isPublicHost } from './bearerTokens.ts';
import type { TokenState } from './issuedTokens.ts';
import { LoopbackServer } from './loopbackServer.ts';

/** One request at the door, and what it showed there. */
export interface RegistryVisit {
  readonly at: number; // ms
  readonly host: string; // by which name it was asked
  readonly method: string;
  readonly path: string;
  readonly shown: TokenState | 'none';
  status: number; // HTTP; 0 where the client went away first
}

export interface RegistryOptions {
  readonly certificate: Certificate;
  /** Whether a token, as it stands behind `Basic `, is one of AWS's. */
  readonly stateOf: (auth: string) => TokenState;
}

/**
 * A registry over HTTPS that asks for Basic as ECR does, and serves one small image under every name and tag. Without a
 * token that it knows it says 401, to an expired one 403. As public.ecr.aws it asks for a bearer token, which it gives to
 * anybody who shows no token at all, too.
 */
export class SandboxRegistry {
  readonly visits: RegistryVisit[] = [];
  readonly image: StaticImage = staticImage(Buffer.from('#!/bin/true\n'), 'sandbox');
  /** Lets everybody in with a live token, and nobody pull: what an identity without ecr:BatchGetImage meets. */
  deniesPulls = false;
  readonly #stateOf: RegistryOptions['stateOf'];
  readonly #server: LoopbackServer;
  readonly #bearers = new BearerTokens();

  private constructor(server: LoopbackServer, options: RegistryOptions) {
    this.#server = server;
    this.#stateOf = options.stateOf;
  }

  static async start(options: RegistryOptions): Promise<SandboxRegistry> {
    const server: LoopbackServer = await LoopbackServer.start(
      (request, response) => registry.#visit(request, response),
      options.certificate,
    );
    const registry = new SandboxRegistry(server, options);
    return registry;
  }

  get port(): number {
    return this.#server.port;
  }

  count(shown: RegistryVisit['shown'], since = 0): number {
    return this.visits.filter((visit) => visit.shown === shown && visit.at >= since).length;
  }

  down(): Promise<void> {
    return this.#server.down();
  }

  up(): Promise<void> {
    return this.#server.up();
  }

  #visit(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const { method = '', url: path = '', headers } = request;
    const shown = this.#shownBy(headers.authorization ?? '');
    const visit = { at: Date.now(), host: headers.host ?? '', method, path, shown, status: 0 };
    this.visits.push(visit);
    response.once('finish', () => (visit.status = response.statusCode));
    if (isPublicHost(visit.host) && path.startsWith('/token/')) return this.#bearers.answer(shown, response);
    response.setHeader('docker-distribution-api-version', 'registry/2.0');
    if (!path.startsWith('/v2/')) return void response.writeHead(404).end();
    if (this.#mayEnter(visit, headers.authorization ?? '')) this.#serve(visit, response);
    else refuse(visit, response);
  }

  #mayEnter({ host, shown }: RegistryVisit, authorization: string): boolean {
    return isPublicHost(host) ? this.#bearers.accepts(authorization) : shown === 'live';
  }

  #shownBy(authorization: string): RegistryVisit['shown'] {
    if (authorization === '') return 'none';
    const [scheme = '', auth = ''] = authorization.split(' ');
    if (scheme.toLowerCase() === 'basic') return this.#stateOf(auth);
    return this.#bearers.accepts(authorization) ? 'live' : 'unknown';
  }

  #serve({ path, method }: RegistryVisit, response: ServerResponse): void {
    if (path === '/v2/') return send(response, method, { type: 'application/json', content: Buffer.from('{}') });
    const [, repository = '', kind, reference = ''] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(path) ?? [];
    if (this.deniesPulls) return denied(response, notAuthorized(repository));
    const found = kind === 'manifests' ? this.#manifest(reference) : this.#blob(reference);
    if (found) return send(response, method, found);
    const code = kind === 'manifests' ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN';
    sendErrors(response, 404, { code, message: `${repository}: ${reference} is not here` });
  }

  #manifest(reference: string): Content | null {
    const { manifest, manifestType } = this.image;
    const isHere = !reference.startsWith('sha256:') || reference === digest(manifest);
    return isHere ? { type: manifestType, content: manifest } : null;
  }

  #blob(reference: string): Content | null {
    const content = [this.image.config, this.image.layer].find((blob) => digest(blob) === reference);
    return content ? { type: 'application/octet-stream', content } : null;
  }
}

interface Content {
  readonly type: string;
  readonly content: Buffer;
}

function send(response: ServerResponse, method: string, { type, content }: Content): void {
  response.writeHead(200, {
    'content-type': type,
    'content-length': content.length,
    'docker-content-digest': digest(content),
  });
  response.end(method === 'HEAD' ? undefined : content);
}

function refuse({ shown, host }: RegistryVisit, response: ServerResponse): void {
  if (isPublicHost(host)) return refuseBearer(host, response);
  if (shown === 'expired') {
    return denied(response, 'Your authorization token has expired. Reauthenticate and try again.');
  }
  const challenge = `Basic realm="https://${host}/",service="ecr.amazonaws.com"`;
  response.writeHead(401, { 'content-type': 'text/plain; charset=utf-8', 'www-authenticate': challenge });
  response.end('Not Authorized\n');
}

function refuseBearer(host: string, response: ServerResponse): void {
  response.setHeader('www-authenticate', `Bearer realm="https://${host}/token/",service="${host}",scope="aws"`);
  sendErrors(response, 401, { code: 'DENIED', message: 'Not Authorized' });
}

function denied(response: ServerResponse, message: string): void {
  sendErrors(response, 403, { code: 'DENIED', message });
}

function notAuthorized(repository: string): string {
  return `User: arn:aws:iam::123456789012:user/sandbox is not authorized to perform: ecr:BatchGetImage on resource: arn:aws:ecr:us-east-1:123456789012:repository/${repository}`;
}

function sendErrors(response: ServerResponse, status: number, error: { code: string; message: string }): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify({ errors: [error] }));
}
