import type { Dispatcher } from 'undici';
import { TransientError } from '../errors.ts';
import type { Answer } from './answerError.ts';

/** One request as it goes over the wire. */
export interface Outgoing {
  dispatcher: Dispatcher;
  origin: string;
  path: string; // with the query
  method: string;
  headers: Record<string, string>;
  body: string | null;
  /** Ends it, in whatever state it is, with the signal's reason as the error. */
  signal: AbortSignal;
  beforeSend: BeforeSend;
}

/**
 * Called in the tick in which the bytes go to a connection that stands. What it throws ends the request unsent; a signal
 * that it returns ends it on its way, as `signal` does.
 */
export type BeforeSend = () => AbortSignal | undefined;

/** What becomes of it: `head`, any number of `data`, then exactly one of `end` and `error`, and nothing after. */
export interface Sink {
  head(status: number, headers: Answer['headers']): void;
  data(chunk: Buffer, flow: Flow): void;
  end(): void;
  error(error: Error, at: { sent: boolean; answered: boolean }): void;
}

export type Flow = Pick<Dispatcher.DispatchController, 'pause' | 'resume'>;

/** Sends a request and hands what comes back to `sink`. What `sink` throws becomes its error. */
export function send(o: Outgoing, sink: Sink): void {
  const { signal, dispatcher, beforeSend, ...request } = o;
  let controller: Dispatcher.DispatchController | null = null;
  let term: AbortSignal | undefined;
  let sent = false;
  let answered = false;
  let over = false;

  const finish = (error?: Error): void => {
    if (over) return;
    over = true;
    signal.removeEventListener('abort', onAbort);
    term?.removeEventListener('abort', onTermEnd);
    if (error === undefined) sink.end();
    else sink.error(error, { sent, answered });
  };
  const stop = (error: Error): void => {
    finish(error);
    controller?.abort(error);
  };
  const onAbort = (): void => stop(asError(signal.reason));
  const onTermEnd = (): void => stop(asError(term?.reason));
  const guarded = (fn: () => void): void => {
    if (over) return;
    try {
      fn();
    } catch (error) {
      stop(asError(error));
    }
  };

  if (signal.aborted) return onAbort();
  signal.addEventListener('abort', onAbort);
  const handler: Dispatcher.DispatchHandler = {
    onRequestStart(begun) {
      controller = begun;
      if (over) return begun.abort(new Error('ended before it was sent'));
      guarded(() => {
        term = beforeSend();
        term?.addEventListener('abort', onTermEnd);
        sent = true;
      });
    },
    onResponseStart(_, status, headers) {
      if (status < 200) return;
      guarded(() => {
        answered = true;
        sink.head(status, headers);
      });
    },
    onResponseData: (flow, chunk) => guarded(() => sink.data(chunk, flow)),
    onResponseEnd: () => guarded(() => finish()),
    onResponseError: (_, error) => finish(error),
  };
  try {
    dispatcher.dispatch(request, handler);
  } catch (error) {
    finish(asError(error));
  }
}

/** A kept connection turned out to be closed by the other side before any byte of an answer came. */
export class ConnectionLost extends Error {}

const LOST = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

/** The whole answer, of `maxBytes` at most. Throws ConnectionLost, what `beforeSend` threw, the signal's reason, or undici's error. */
export function exchange(o: Outgoing, maxBytes: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const answer: Answer = { status: 0, headers: {}, body: Buffer.alloc(0) };
    let bytes = 0;
    send(o, {
      head(status, headers) {
        refuseEncoding(headers);
        Object.assign(answer, { status, headers });
      },
      data(chunk) {
        bytes += chunk.length;
        if (bytes > maxBytes) throw new TransientError('TooLarge', `an answer of more than ${maxBytes} bytes`);
        chunks.push(chunk);
      },
      end: () => resolve({ ...answer, body: Buffer.concat(chunks) }),
      error: (error, { sent, answered }) =>
        reject(
          sent && !answered && LOST.has(errorCode(error)) ? new ConnectionLost(error.message, { cause: error }) : error,
        ),
    });
  });
}

/** We ask for no encoding: one that comes all the same may be a bomb, and is not opened. */
export function refuseEncoding(headers: Answer['headers']): void {
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding !== '' && encoding !== 'identity') {
    throw new TransientError('Encoded', 'an answer with a content-encoding that was not asked for');
  }
}

/** The `code` that Node and undici put on their errors; '' without one. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
