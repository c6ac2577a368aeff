import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiFailure, badRequest, unauthorized } from './apiFailure.ts';
import {
  attributesOf,
  authorise,
  handle,
  isDryRun,
  isWatch,
  needInitialised,
  patchOf,
  type ApiAnswer,
  type ApiRequest,
  type Authorizer,
} from './apiHandler.ts';
import { Audit } from './audit.ts';
import { ClusterLife, defaultPace, type Pace } from './clusterLife.ts';
import type { Fault, Faults, RequestInfo } from './faults.ts';
import { LocalClient } from './localClient.ts';
import { ObjectStore } from './objectStore.ts';
import { ObjectWriter, type Admission, type User, type WriterHooks } from './objectWriter.ts';
import { apiVersionOf, formOf } from './representation.ts';
import { accessReviewType, builtInTypes, typeKey, type ResourceType } from './resourceTypes.ts';
import { routeOf, type Route } from './route.ts';
import { selectorOf } from './selector.ts';
import { WatchStream } from './watchStream.ts';

export interface ApiServerOptions {
  /** Bearer token → user. The admin is always there. */
  readonly users?: Readonly<Record<string, User>>;
  readonly authorize?: Authorizer;
  readonly admission?: Admission;
  readonly validateCustom?: WriterHooks['validateCustom'];
  readonly pace?: Partial<Pace>;
  readonly bookmarkMs?: number;
  readonly tls?: { readonly cert: string; readonly key: string };
}

export const adminToken = 'sandbox-admin-token';
export const admin: User = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
const anonymous: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] };

const BOOKMARK_MS = 60_000;

/**
 * A kube-apiserver and its controllers in this process, on loopback, good enough for this operator: what it does and says is
 * held to a real one by test/sandbox/*.test.ts. Everything that a test may want to change is a field.
 */
export class ApiServer implements AsyncDisposable {
  readonly store: ObjectStore;
  readonly audit = new Audit();
  readonly users: Map<string, User>;
  /** Requests without HTTP, as the admin; audited like all others. */
  readonly admin: LocalClient;
  faults: Faults = () => null;
  authorize: Authorizer;
  admission: Admission;
  validateCustom: WriterHooks['validateCustom'];
  pace: Pace;
  bookmarkMs: number;
  /** Requests that a fault holds now. */
  held = 0;
  dateOffsetMs = 0; // of its clock, in the header Date and in timestamps
  readonly #types = new Map<string, ResourceType>();
  readonly #writer: ObjectWriter;
  readonly #life: ClusterLife;
  readonly #tls: ApiServerOptions['tls'];
  readonly #watches = new Set<WatchStream>();
  #server: Server | null = null;
  #port = 0;

  private constructor(o: ApiServerOptions) {
    this.users = new Map([[adminToken, admin], ...Object.entries(o.users ?? {})]);
    this.authorize = o.authorize ?? (() => true);
    this.admission = o.admission ?? (() => null);
    this.validateCustom = o.validateCustom ?? (() => []);
    this.pace = { ...defaultPace, ...o.pace };
    this.bookmarkMs = o.bookmarkMs ?? BOOKMARK_MS;
    this.#tls = o.tls;
    for (const type of [...builtInTypes, accessReviewType]) this.#types.set(typeKey(type), type);
    this.store = new ObjectStore(this.now);
    this.#writer = new ObjectWriter(this.store, {
      admission: (request) => this.admission(request),
      validateCustom: (object, type) => this.validateCustom(object, type),
      now: this.now,
    });
    this.#life = new ClusterLife({
      ...{ store: this.store, types: this.#types, now: this.now, pace: () => this.pace },
      endWatches: (of) => this.endWatches({ of }),
    });
    this.store.subscribe((change) => {
      for (const watch of this.#watches) if (typeKey(watch.options.type) === change.of) watch.change(change);
    });
    this.admin = new LocalClient((request) => this.#local(request), admin);
  }

  static async start(o: ApiServerOptions = {}): Promise<ApiServer> {
    const server = new ApiServer(o);
    for (const name of ['default', 'kube-system']) server.admin.create(namespaceNamed(name));
    await server.restart();
    return server;
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `${this.#tls ? 'https' : 'http'}://127.0.0.1:${this.#port}`;
  }

  readonly now = (): number => Date.now() + this.dateOffsetMs;

  /** Listens on the port that it had. */
  async restart(): Promise<void> {
    const listener = (request: IncomingMessage, response: ServerResponse): void => void this.#serve(request, response);
    const server = this.#tls ? createHttpsServer(this.#tls, listener) : createHttpServer(listener);
    server.keepAliveTimeout = 120_000;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** Refuses connections and cuts those that are open. The objects stay. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }

  async close(): Promise<void> {
    this.#life.stop();
    await this.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Open watches, of one type (`secrets`, `leases.coordination.k8s.io`) or user. */
  watches(of: { of?: string; user?: string } = {}): WatchStream[] {
    return [...this.#watches].filter(
      ({ options }) =>
        (of.of === undefined || typeKey(options.type) === of.of) && (of.user === undefined || options.user === of.user),
    );
  }

  endWatches(of: { of?: string; user?: string } = {}): void {
    for (const watch of this.watches(of)) watch.end();
  }

  cutWatches(of: { of?: string; user?: string } = {}): void {
    for (const watch of this.watches(of)) watch.cut();
  }

  /** Half-open connections: they stay, and nothing comes any more. */
  silenceWatches(of: { of?: string; user?: string } = {}): void {
    for (const watch of this.watches(of)) watch.silence();
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    try {
      for await (const part of incoming) parts.push(part as Buffer);
    } catch {
      return;
    }
    const url = new URL(incoming.url ?? '/', 'http://sandbox');
    const authenticated = this.#authenticate(incoming.headers.authorization);
    const request: ApiRequest = {
      method: incoming.method ?? 'GET',
      query: url.searchParams,
      accept: incoming.headers.accept,
      contentType: incoming.headers['content-type'],
      userAgent: incoming.headers['user-agent'],
      body: Buffer.concat(parts).toString(),
      user: authenticated ?? anonymous,
    };
    const route = routeOf(url.pathname, this.#types);
    const info = infoOf(request, route, url);
    const fault = this.faults(info);
    if (fault && !(await this.#suffer(fault, info, response))) return;
    const answer = authenticated ? null : failure(unauthorized());
    if (!answer && route && isWatch(url.searchParams)) return this.#watch({ request, route, info, response });
    const done = answer ?? this.#answer(request, route, url.pathname);
    this.#record(info, done.code);
    if (fault?.kind === 'cutAfter') response.destroy();
    else this.#send(response, done);
  }

  /** Whether the request goes on. */
  async #suffer(fault: Fault, info: RequestInfo, response: ServerResponse): Promise<boolean> {
    if (fault.kind === 'delay') await delay(fault.ms);
    if (fault.kind === 'hold') {
      if (!fault.until) this.#record(info, 0);
      this.held += 1;
      await (fault.until ?? new Promise(() => {}));
      this.held -= 1;
    }
    if (fault.kind === 'cut') {
      this.#record(info, 0);
      response.destroy();
    }
    if (fault.kind === 'answer') {
      const { status, body = '', headers } = fault;
      this.#record(info, status);
      this.#send(response, {
        code: status,
        text: typeof body === 'string' ? body : JSON.stringify(body),
        ...(headers && { headers }),
      });
    }
    return fault.kind !== 'cut' && fault.kind !== 'answer';
  }

  #authenticate(authorization: string | undefined): User | null {
    if (authorization === undefined) return anonymous;
    return this.users.get(authorization.replace(/^Bearer /, '')) ?? null;
  }

  #answer(request: ApiRequest, route: Route | null, pathname: string): ApiAnswer {
    if (!route) return plainAnswer(pathname, [...this.#types.values()]);
    try {
      if (!request.user.groups.includes('system:authenticated')) authorise(attributesOf(request, route), () => false);
      const parts = { store: this.store, writer: this.#writer, life: this.#life, authorize: this.#authorizer };
      return handle(request, route, parts);
    } catch (error) {
      return failure(error);
    }
  }

  readonly #authorizer: Authorizer = (attributes) =>
    attributes.user.groups.includes('system:masters') || this.authorize(attributes);

  #local(request: ApiRequest & { path: string }): ApiAnswer {
    const route = routeOf(request.path, this.#types);
    const answer = this.#answer(request, route, request.path);
    this.#record(infoOf(request, route, new URL(request.path, 'http://sandbox')), answer.code);
    return answer;
  }

  #watch(o: { request: ApiRequest; route: Route; info: RequestInfo; response: ServerResponse }): void {
    const { request, route, info, response } = o;
    try {
      authorise(attributesOf(request, route), this.#authorizer);
      needInitialised(route, { life: this.#life });
      const { query } = request;
      const version = query.get('resourceVersion') ?? '';
      if (!/^\d*$/.test(version)) throw badRequest(`Invalid value: "${version}": invalid resource version`);
      const sendsInitial = query.get('sendInitialEvents') === 'true';
      const fromNow = version === '' || version === '0' || sendsInitial;
      const hasBookmarks = query.get('allowWatchBookmarks') === 'true';
      const watch = new WatchStream(response, {
        type: route.type,
        form: formOf(request.accept),
        selector: selectorOf(query, route.namespace),
        user: info.user,
        bookmarkMs: hasBookmarks ? this.bookmarkMs : Infinity,
        timeoutMs: query.has('timeoutSeconds') ? Number(query.get('timeoutSeconds')) * 1000 : Infinity,
        version: () => this.store.version,
        after: fromNow ? this.store.version : Number(version),
      });
      this.#record(info, 200);
      response.writeHead(200, { 'content-type': 'application/json', date: this.#date() });
      response.flushHeaders();
      this.#watches.add(watch);
      response.on('close', () => this.#watches.delete(watch));
      if (fromNow) {
        for (const object of this.store.list(route.type, route.namespace)) watch.initial(object);
        if (sendsInitial) watch.bookmark({ 'k8s.io/initial-events-end': 'true' });
        return;
      }
      this.#replay(watch, Number(version));
    } catch (error) {
      const answer = failure(error);
      this.#record(info, answer.code);
      this.#send(response, answer);
    }
  }

  // An old version is told in the stream, as the watch cache does it.
  #replay(watch: WatchStream, version: number): void {
    try {
      for (const change of this.store.since(version, watch.options.type)) watch.change(change);
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error;
      watch.error(error.status);
      watch.end();
    }
  }

  #send(response: ServerResponse, { code, text, headers }: ApiAnswer): void {
    const type = text.startsWith('{') ? 'application/json' : 'text/plain; charset=utf-8';
    response.writeHead(code, { 'content-type': type, date: this.#date(), ...headers });
    response.end(text);
  }

  #date(): string {
    return new Date(this.now()).toUTCString();
  }

  #record(info: RequestInfo, code: number): void {
    this.audit.record({ ...info, code, at: Date.now() });
  }
}

function namespaceNamed(name: string) {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
}

function failure(error: unknown): ApiAnswer {
  if (error instanceof ApiFailure) {
    return { code: error.code, text: JSON.stringify(error.status), headers: error.headers };
  }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const internal = new ApiFailure({
    code: 500,
    reason: 'InternalError',
    message: `a fault of the sandbox: ${message}`,
  });
  return { code: 500, text: JSON.stringify(internal.status) };
}

function infoOf(request: ApiRequest, route: Route | null, url: URL): RequestInfo {
  const { method, query, user, contentType } = request;
  const common = { user: user.name, method, url: `${url.pathname}${url.search}`, dryRun: isDryRun(query) };
  const patch = method === 'PATCH' ? patchOf(contentType) : null;
  if (!route) {
    return {
      ...common,
      patch,
      verb: 'get',
      group: '',
      resource: url.pathname,
      subresource: '',
      namespace: '',
      name: '',
    };
  }
  const { verb, group, resource, subresource, name } = safeAttributes(request, route);
  return {
    ...common,
    patch,
    verb: verb as RequestInfo['verb'],
    group,
    resource,
    subresource,
    namespace: route.namespace ?? '',
    name,
  };
}

function safeAttributes(request: ApiRequest, route: Route) {
  try {
    return attributesOf(request, route);
  } catch {
    return attributesOf({ ...request, query: new URLSearchParams() }, route);
  }
}

function plainAnswer(pathname: string, types: readonly ResourceType[]): ApiAnswer {
  if (['/readyz', '/livez', '/healthz'].includes(pathname)) return { code: 200, text: 'ok' };
  if (pathname === '/version') {
    return { code: 200, text: JSON.stringify({ major: '1', minor: '36', gitVersion: 'v1.36.3' }) };
  }
  // Of a group that is served, a resource that is not is told by a Status.
  if (types.some((type) => pathname.startsWith(`/${type.group ? 'apis' : 'api'}/${apiVersionOf(type)}/`))) {
    const message = 'the server could not find the requested resource';
    return failure(new ApiFailure({ code: 404, reason: 'NotFound', message }));
  }
  return { code: 404, text: '404 page not found\n' };
}
