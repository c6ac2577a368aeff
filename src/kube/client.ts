import type { Clock } from '../clock.ts';
import { OperatorError, StoppedError, TransientError } from '../errors.ts';
import { answerError, type Answer } from './answerError.ts';
import { describe, type Asked } from './apiStatusError.ts';
import type { Connection } from './connection.ts';
import { ConnectionLost, errorCode, exchange, type BeforeSend, type Outgoing } from './exchange.ts';
import { isIdempotent } from './idempotent.ts';
import type { KubeLog } from './kubeLog.ts';
import type { WatchEvent } from './kubeObject.ts';
import { parseAnswer, parseEvent } from './parseAnswer.ts';
import { parseResourcePath } from './resourcePath.ts';
import { ServerContact } from './serverContact.ts';
import { streamLines } from './streamLines.ts';

export interface KubeRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  query?: Record<string, string> | undefined;
  body?: unknown;
  patch?: 'json' | 'merge' | 'apply' | undefined;
  /** Answers with PartialObjectMetadata(List): no data, no spec. */
  metadataOnly?: boolean | undefined;
  deadlineMs?: number | undefined; // for all of it, a second try included; default 8000
  signal?: AbortSignal | undefined;
  /** Called in the tick in which the bytes are sent. What it throws (StoppedError) is thrown, and nothing is sent. */
  beforeSend?: BeforeSend | undefined;
}

export interface WatchRequest {
  path: string;
  query: Record<string, string>;
  metadataOnly?: boolean | undefined;
  signal: AbortSignal;
  idleMs: number; // so long without a byte, and the watch is dead
  onOpen?: () => void; // the server has accepted it
}

export interface KubeClientOptions {
  connection: Connection;
  clock: Clock;
  log: KubeLog;
  metrics: { kubeRequest(verb: string, code: string): void };
  userAgent?: string;
  /** Of another client of the same server, to share what they know of it. */
  contact?: ServerContact;
}

const DEADLINE_MS = 8000;
const IDENTITY_DEADLINE_MS = 30_000;
const LARGEST_ANSWER = 64 * 2 ** 20; // bytes

/**
 * Requests to one API server. Every one has a deadline; a refusal is thrown as the error class that says how it is handled
 * (see answerError), and anything that the API server did not say itself is a TransientError.
 */
export class KubeClient {
  readonly contact: ServerContact;
  readonly #options: KubeClientOptions;
  readonly #origin: string;
  readonly #basePath: string;
  #serverTimeOffsetMs: number | null = null;

  constructor(options: KubeClientOptions) {
    this.#options = options;
    this.contact = options.contact ?? new ServerContact(options);
    const server = new URL(options.connection.server);
    this.#origin = server.origin;
    this.#basePath = server.pathname.replace(/\/$/, '');
  }

  /** The API server's clock minus ours, as last seen; it is told in whole seconds, and rounded down. */
  get serverTimeOffsetMs(): number | null {
    return this.#serverTimeOffsetMs;
  }

  async request<T>(r: KubeRequest): Promise<T> {
    const asked = { verb: verbOf(r), ...parseResourcePath(r.path) };
    const ending = this.#ending(r, asked);
    try {
      const answer = await this.#tryTwice(r, asked, ending.signal);
      const object = parseAnswer(answer, asked);
      this.#count(asked, String(answer.status));
      this.contact.note(null);
      return object as T;
    } catch (error) {
      throw this.#noted(this.#asOperatorError(error, asked));
    } finally {
      ending.clear();
    }
  }

  /** Events until the server ends the watch. Throws what `request` throws, and `Silent` after `idleMs` without a byte. */
  async *watch(r: WatchRequest): AsyncGenerator<WatchEvent, void, undefined> {
    const asked = { verb: 'watch', ...parseResourcePath(r.path) };
    const { clock } = this.#options;
    try {
      const lines = streamLines({
        ...this.#outgoing(
          { ...r, method: 'GET', query: { ...r.query, watch: 'true' } },
          await this.#identity(r, asked),
        ),
        signal: r.signal,
        clock,
        idleMs: r.idleMs,
        onHead: (answer) => {
          this.#noteDate(answer);
          this.#count(asked, String(answer.status));
          if (answer.status === 200) r.onOpen?.();
        },
        refusal: (answer) => this.#refusal(answer, asked, false),
      });
      for await (const line of lines) {
        const event = parseEvent(line, asked);
        this.contact.note(null);
        yield event;
      }
    } catch (error) {
      throw this.#noted(this.#asOperatorError(error, asked));
    }
  }

  async close(): Promise<void> {
    await this.#options.connection.close();
  }

  async #tryTwice(r: KubeRequest, asked: Asked, signal: AbortSignal): Promise<Answer> {
    try {
      return await this.#try(r, asked, signal);
    } catch (error) {
      if (!(error instanceof ConnectionLost) || !isIdempotent(r)) throw error;
      this.#options.log.debug(
        { verb: asked.verb, resource: asked.resource },
        'kept connection was closed: trying again',
      );
      return await this.#try(r, asked, signal);
    }
  }

  async #try(r: KubeRequest, asked: Asked, signal: AbortSignal): Promise<Answer> {
    const headers = await orAborted(this.#options.connection.headers(), signal);
    const answer = await exchange({ ...this.#outgoing(r, headers), signal }, LARGEST_ANSWER);
    this.#noteDate(answer);
    if (answer.status >= 200 && answer.status <= 299) return answer;
    this.#count(asked, String(answer.status));
    throw this.#refusal(answer, asked, r.patch === 'json');
  }

  // An exec plugin may hang.
  async #identity(r: Pick<KubeRequest, 'signal'>, asked: Asked): Promise<Record<string, string>> {
    const ending = this.#ending({ ...r, deadlineMs: IDENTITY_DEADLINE_MS }, asked);
    try {
      return await orAborted(this.#options.connection.headers(), ending.signal);
    } finally {
      ending.clear();
    }
  }

  #outgoing(r: KubeRequest, identity: Record<string, string>): Omit<Outgoing, 'signal'> {
    const query = new URLSearchParams(r.query).toString();
    return {
      dispatcher: this.#options.connection.dispatcher,
      origin: this.#origin,
      path: `${this.#basePath}${r.path}${query && `?${query}`}`,
      method: r.method,
      headers: {
        accept: acceptOf(r),
        'accept-encoding': 'identity',
        'user-agent': this.#options.userAgent ?? 'kube-client',
        ...(r.body !== undefined && { 'content-type': contentTypeOf(r) }),
        ...identity,
      },
      body: r.body === undefined ? null : JSON.stringify(r.body),
      beforeSend: r.beforeSend ?? (() => undefined),
    };
  }

  /** A signal that fires at the deadline or when the caller stops it. */
  #ending(r: Pick<KubeRequest, 'signal' | 'deadlineMs'>, asked: Asked): { signal: AbortSignal; clear: () => void } {
    const controller = new AbortController();
    const ms = r.deadlineMs ?? DEADLINE_MS;
    const cancel = this.#options.clock.after(ms, () =>
      controller.abort(
        new TransientError('Deadline', `${describe(asked)}: no answer within ${ms / 1000} s${heldUpBy(asked)}`),
      ),
    );
    const onStop = (): void => controller.abort(stopped(asked, r.signal?.reason));
    if (r.signal?.aborted === true) onStop();
    r.signal?.addEventListener('abort', onStop);
    const clear = (): void => {
      cancel();
      r.signal?.removeEventListener('abort', onStop);
    };
    return { signal: controller.signal, clear };
  }

  #count({ verb }: Asked, code: string): void {
    this.#options.metrics.kubeRequest(verb, code);
  }

  #noteDate({ headers }: Pick<Answer, 'headers'>): void {
    const date = Date.parse(String(headers['date']));
    if (!Number.isNaN(date)) this.#serverTimeOffsetMs = date - this.#options.clock.now();
  }

  #refusal(answer: Answer, asked: Asked, jsonPatch: boolean): OperatorError {
    if (answer.status === 401) this.#options.connection.renew('token');
    return answerError(answer, asked, { jsonPatch, now: this.#options.clock.now() });
  }

  #noted(error: OperatorError): OperatorError {
    this.contact.note(error);
    return error;
  }

  /** What is none of ours came from the network. Only its code is told: undici's texts may quote what was sent. */
  #asOperatorError(error: unknown, asked: Asked): OperatorError {
    if (error instanceof OperatorError) {
      if (COUNTED.has(error.code)) this.#count(asked, error.code);
      return error;
    }
    if (isAbort(error)) return stopped(asked, error);
    const code = errorCode(error) || errorCode(error instanceof Error ? error.cause : null);
    this.#options.connection.renew('certificates');
    this.#count(asked, 'Network');
    const why = code || (error instanceof Error ? error.name : 'unknown');
    return new TransientError('Network', `${describe(asked)}: no connection to the API server (${why})`, {
      cause: error,
    });
  }
}

const COUNTED: ReadonlySet<string> = new Set(['Deadline', 'Silent', 'NotKubernetes', 'Encoded', 'TooLarge']); // beside the HTTP status

function verbOf(r: KubeRequest): string {
  const { name } = parseResourcePath(r.path);
  if (r.method === 'GET') return name === undefined ? 'list' : 'get';
  if (r.method === 'PATCH') return r.patch === 'apply' ? 'apply' : 'patch';
  return { POST: 'create', PUT: 'update', DELETE: 'delete' }[r.method];
}

// Only a write passes admission.
function heldUpBy({ verb }: Asked): string {
  if (verb === 'get' || verb === 'list' || verb === 'watch') return '';
  return '; look at the API server, and for an admission webhook that does not answer';
}

function acceptOf(r: KubeRequest): string {
  if (r.metadataOnly !== true) return 'application/json';
  const isList = verbOf(r) === 'list' && r.query?.['watch'] === undefined;
  return `application/json;as=PartialObjectMetadata${isList ? 'List' : ''};g=meta.k8s.io;v=v1`;
}

function contentTypeOf(r: KubeRequest): string {
  if (r.patch === 'json') return 'application/json-patch+json';
  if (r.patch === 'merge') return 'application/merge-patch+json';
  // JSON is YAML; older servers do not know apply-patch+json.
  return r.patch === 'apply' ? 'application/apply-patch+yaml' : 'application/json';
}

/** The promise's outcome, or the signal's reason if that comes first. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

function stopped(asked: Asked, reason: unknown): OperatorError {
  if (reason instanceof OperatorError) return reason;
  return new StoppedError('Stopped', `${describe(asked)}: stopped`);
}
