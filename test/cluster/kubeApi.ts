import { Agent, request, type Dispatcher } from 'undici';
import { eventually } from './eventually.ts';

export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    generation?: number;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    managedFields?: { manager: string; operation: string; fieldsV1: Record<string, unknown>; subresource?: string }[];
  };
  [field: string]: unknown;
}

export interface Answer<T> {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: T;
}

export interface RequestOptions {
  query?: Record<string, string>;
  body?: unknown;
  contentType?: string;
  headers?: Record<string, string>;
  timeoutMs?: number;
}

export type PatchType = 'json' | 'merge' | 'strategic';

const patchTypes: Record<PatchType, string> = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
};

/** A small client of the API server for tests: it shares nothing with the operator's own. */
export class KubeApi {
  readonly server: string;
  readonly #ca: string;
  readonly #token: string;
  readonly #dispatcher: Agent;

  constructor(o: { server: string; ca: string; token: string; connections?: number }) {
    this.server = o.server;
    this.#ca = o.ca;
    this.#token = o.token;
    this.#dispatcher = new Agent({
      ...{ connect: { ca: o.ca }, connections: o.connections ?? 32, keepAliveTimeout: 30_000 },
      allowH2: false, // a session whose server was killed goes on being used, and its requests have no answer
    });
  }

  /** Any request; an answer of any status is returned, only a broken connection or a time-out throws. */
  async request<T = unknown>(method: Dispatcher.HttpMethod, path: string, o: RequestOptions = {}): Promise<Answer<T>> {
    const query = o.query === undefined ? '' : `?${new URLSearchParams(o.query).toString()}`;
    const timeout = o.timeoutMs ?? 30_000;
    const { statusCode, headers, body } = await request(`${this.server}${path}${query}`, {
      method: method,
      dispatcher: this.#dispatcher,
      headersTimeout: timeout,
      bodyTimeout: timeout,
      headers: {
        authorization: `Bearer ${this.#token}`,
        accept: 'application/json',
        ...(o.body === undefined ? {} : { 'content-type': o.contentType ?? 'application/json' }),
        ...o.headers,
      },
      body: o.body === undefined ? null : typeof o.body === 'string' ? o.body : JSON.stringify(o.body),
    });
    const text = await body.text();
    const isJson = String(headers['content-type']).startsWith('application/json');
    return { status: statusCode, headers, body: (isJson ? JSON.parse(text) : text) as T };
  }

  /** null where it is not found; any other failure throws. */
  async get<T = KubeObject>(path: string): Promise<T | null> {
    const answer = await this.request<T>('GET', path);
    return answer.status === 404 ? null : succeeded(`GET ${path}`, answer);
  }

  /** What must be there. */
  async read<T = KubeObject>(path: string): Promise<T> {
    const object = await this.get<T>(path);
    if (object === null) throw new Error(`${path} is not there`);
    return object;
  }

  async list<T = KubeObject>(path: string, query: Record<string, string> = {}): Promise<T[]> {
    const answer = await this.request<{ items: T[] | null }>('GET', path, { query });
    return succeeded(`GET ${path}`, answer).items ?? [];
  }

  async create<T = KubeObject>(object: KubeObject): Promise<T> {
    const path = collectionOf(object);
    return succeeded(`POST ${path}`, await this.request<T>('POST', path, { body: object }));
  }

  /** Replaces an object as PUT does. */
  async replace<T = KubeObject>(object: KubeObject): Promise<T> {
    const path = pathOf(object);
    return succeeded(`PUT ${path}`, await this.request<T>('PUT', path, { body: object }));
  }

  /** Server-side apply; unforced as kubectl's unless `force` is given. */
  async apply<T = KubeObject>(object: KubeObject, o: { manager?: string; force?: boolean } = {}): Promise<T> {
    const path = pathOf(object);
    const query = { fieldManager: o.manager ?? 'test', ...(o.force ? { force: 'true' } : {}) };
    const contentType = 'application/apply-patch+yaml';
    return succeeded(`apply ${path}`, await this.request<T>('PATCH', path, { query, body: object, contentType }));
  }

  async patch<T = KubeObject>(path: string, body: unknown, o: { type?: PatchType; manager?: string } = {}): Promise<T> {
    const contentType = patchTypes[o.type ?? 'merge'];
    const query = { fieldManager: o.manager ?? 'test' };
    return succeeded(`PATCH ${path}`, await this.request<T>('PATCH', path, { query, body, contentType }));
  }

  /** Deletes an object; one that is not there is fine. */
  async delete(path: string, body?: unknown): Promise<void> {
    const answer = await this.request('DELETE', path, body === undefined ? {} : { body });
    if (answer.status !== 404) succeeded(`DELETE ${path}`, answer);
  }

  /** Reads `path` until the predicate holds for what is there (null: not found), and returns that. */
  async waitFor<T = KubeObject>(
    path: string,
    predicate: (object: T) => unknown = () => true,
    timeoutMs = 30_000,
  ): Promise<T> {
    const read = async () => {
      const object = await this.get<T>(path);
      return object !== null && predicate(object) ? { object } : null;
    };
    return (await eventually(`${path} is as expected`, read, timeoutMs)).object;
  }

  async waitForAbsence(path: string, timeoutMs = 30_000): Promise<void> {
    await eventually(`${path} is gone`, async () => (await this.get(path)) === null, timeoutMs);
  }

  /** The same user at another server with the same certificate; to be closed for itself. */
  at(server: string): KubeApi {
    return new KubeApi({ server, ca: this.#ca, token: this.#token });
  }

  /** For requests beside this client (a watch): the connection pool and the header that it uses. */
  get transport(): { dispatcher: Dispatcher; headers: Record<string, string> } {
    return { dispatcher: this.#dispatcher, headers: { authorization: `Bearer ${this.#token}` } };
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }
}

/** The path of an object's collection; namespaced where it has a namespace. */
export function collectionOf(object: KubeObject): string {
  const { apiVersion = 'v1', kind = '' } = object;
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const namespace = object.metadata.namespace;
  return `${root}${namespace === undefined ? '' : `/namespaces/${namespace}`}/${pluralOf(kind)}`;
}

export function pathOf(object: KubeObject): string {
  return `${collectionOf(object)}/${object.metadata.name}`;
}

/** Kubernetes' own plurals follow English ones: policies, ingresses, pods. */
function pluralOf(kind: string): string {
  const name = kind.toLowerCase();
  if (name.endsWith('y')) return `${name.slice(0, -1)}ies`;
  return name.endsWith('s') ? `${name}es` : `${name}s`;
}

function succeeded<T>(what: string, answer: Answer<T>): T {
  if (answer.status >= 200 && answer.status < 300) return answer.body;
  const status = answer.body as { message?: string } | string;
  const message = typeof status === 'string' ? status.slice(0, 300) : status.message;
  throw new Error(`${what}: ${answer.status} ${message}`);
}
