import { Agent } from 'node:https';
import { pipeline, Readable, Transform } from 'node:stream';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { AwsService } from './awsEndpoints.ts';

/**
 * The one way to AWS, shared by all clients. The SDK has no time limits of its own, and goes past HTTPS_PROXY: an agent
 * that knows the environment does not. Plain http, which only an endpoint of one's own has, goes direct.
 */
export function createAwsTransport(env: NodeJS.ProcessEnv): NodeHttpHandler {
  return new NodeHttpHandler({
    connectionTimeout: 12_000, // ms, as all of these; a resolver asks its second server after five seconds, twice where need be
    requestTimeout: 10_000, // until the headers are there
    throwOnRequestTimeout: true, // else it is only a warning
    socketTimeout: 10_000, // silence, e.g. in the middle of a body
    httpAgent: { keepAlive: true, maxSockets: 50 },
    httpsAgent: new Agent({ keepAlive: true, maxSockets: 50, proxyEnv: env }),
    logger: SILENT,
  });
}

/** What a request came to; `code` is the HTTP status, or `NoAnswer`. */
export interface AwsAnswer {
  readonly service: AwsService;
  readonly operation: string;
  readonly code: string;
  readonly date: Date | null; // the server's clock
}

type Request = Parameters<NodeHttpHandler['handle']>[0];
type Options = Parameters<NodeHttpHandler['handle']>[1];
type Response = Awaited<ReturnType<NodeHttpHandler['handle']>>;

/** The shared transport as one client uses it: every request is counted, and the last answer's time kept. */
export class ObservedTransport {
  readonly metadata: NodeHttpHandler['metadata'];
  readonly #transport: NodeHttpHandler;
  readonly #service: AwsService;
  readonly #onAnswer: (answer: AwsAnswer) => void;
  #lastDate: Date | null = null;
  #lastHost: string | null = null;

  constructor(transport: NodeHttpHandler, service: AwsService, onAnswer: (answer: AwsAnswer) => void) {
    this.metadata = transport.metadata;
    this.#transport = transport;
    this.#service = service;
    this.#onAnswer = onAnswer;
  }

  /** The `Date` of the last answer; null where it had none. */
  get lastDate(): Date | null {
    return this.#lastDate;
  }

  /** The host that was asked last, for messages. */
  get lastHost(): string | null {
    return this.#lastHost;
  }

  async handle(request: Request, options?: Options): Promise<Response> {
    this.#lastHost = request.hostname;
    const operation = operationOf(request);
    try {
      const answer = await this.#transport.handle(request, options);
      const date = dateOf(answer.response.headers);
      this.#lastDate = date;
      this.#onAnswer({ service: this.#service, operation, code: String(answer.response.statusCode), date });
      answer.response.body = bounded(answer.response.body);
      return answer;
    } catch (error) {
      this.#onAnswer({ service: this.#service, operation, code: 'NoAnswer', date: null });
      throw error;
    }
  }

  // A client would change the settings that all of them share.
  updateHttpClientConfig(): void {}

  httpHandlerConfigs(): ReturnType<NodeHttpHandler['httpHandlerConfigs']> {
    return this.#transport.httpHandlerConfigs();
  }

  // A client that is dropped leaves the shared connections open.
  destroy(): void {}
}

const LARGEST_ANSWER = 256 * 1024; // bytes; tokens and sessions have a few KiB

class AnswerTooLarge extends Error {
  override readonly name = 'AnswerTooLarge';
}

/** The SDK keeps all that comes, however long it goes on. */
function bounded(body: unknown): unknown {
  if (!(body instanceof Readable)) return body;
  let size = 0;
  const limit = new Transform({
    transform(chunk: Buffer, _, done) {
      size += chunk.length;
      if (size > LARGEST_ANSWER) done(new AnswerTooLarge(`an answer of more than ${LARGEST_ANSWER} bytes`));
      else done(null, chunk);
    },
  });
  // Errors of either end the other; whoever reads is told them.
  pipeline(body, limit, ignore);
  return limit;
}

function operationOf({ headers, body }: Request): string {
  const target = headers['x-amz-target']?.split('.').at(-1);
  if (target !== undefined) return target;
  const text: unknown = body; // STS sends a form
  return (typeof text === 'string' ? new URLSearchParams(text).get('Action') : null) ?? 'Unknown';
}

function dateOf(headers: Readonly<Record<string, string>>): Date | null {
  // A cache's answer tells an old time.
  const date = headers['age'] === undefined ? Date.parse(headers['date'] ?? '') : Number.NaN;
  return Number.isNaN(date) ? null : new Date(date);
}

// The SDK's warnings would go to the console, past our log and its redaction.
const SILENT = { trace: ignore, debug: ignore, info: ignore, warn: ignore, error: ignore };

function ignore(): void {}
