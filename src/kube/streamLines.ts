import type { Clock } from '../clock.ts';
import { StoppedError, TransientError } from '../errors.ts';
import type { Answer } from './answerError.ts';
import { refuseEncoding, send, type Flow, type Outgoing } from './exchange.ts';
import { LineSplitter } from './lineSplitter.ts';

export interface StreamOptions extends Outgoing {
  clock: Clock;
  idleMs: number; // so long without a byte, and it ends with a TransientError `Silent`; before the answer, 20 s at most
  onHead: (answer: Pick<Answer, 'status' | 'headers'>) => void;
  /** The error of an answer that is not 200. */
  refusal: (answer: Answer) => Error;
}

const LONGEST_LINE = 16 * 2 ** 20; // bytes
const LARGEST_REFUSAL = 2 ** 20; // bytes
const UNANSWERED_MS = 20_000; // an API server begins a watch at once, or after 15 s in a queue
const PAUSE_AT = 1000; // lines that nobody has taken yet

/**
 * The lines of an answer as they come. Ends where the server ends it cleanly between two lines; throws on anything else.
 * The connection is given up when the consumer stops.
 */
export async function* streamLines(o: StreamOptions): AsyncGenerator<string, void, undefined> {
  const stream = new LineStream(o);
  try {
    for (;;) {
      const lines = await stream.take();
      if (lines === null) return;
      yield* lines;
    }
  } finally {
    stream.close();
  }
}

class LineStream {
  readonly #options: StreamOptions;
  readonly #splitter = new LineSplitter(LONGEST_LINE);
  readonly #ending = new AbortController();
  readonly #onStop = (): void => this.#ending.abort(this.#options.signal.reason);
  #head: Pick<Answer, 'status' | 'headers'> | null = null;
  #refusal: Buffer[] = [];
  #lines: string[] = [];
  #paused: Flow | null = null;
  #end: { error: Error | null } | null = null;
  #wake: () => void = () => undefined;
  #lastByte: number; // monotonic ms
  #cancelTimer: () => void = () => undefined;

  constructor(o: StreamOptions) {
    this.#options = o;
    this.#lastByte = o.clock.monotonic();
    if (o.signal.aborted) this.#onStop();
    o.signal.addEventListener('abort', this.#onStop);
    this.#watchSilence();
    const { clock: _c, idleMs: _i, onHead: _h, refusal: _r, ...outgoing } = o;
    send(
      { ...outgoing, signal: this.#ending.signal },
      {
        head: (status, headers) => this.#onHead({ status, headers }),
        data: (chunk, flow) => this.#onData(chunk, flow),
        end: () => this.#onEnd(),
        error: (error) => this.#finish(error),
      },
    );
  }

  /** The lines that have come, at least one; null at the end. */
  async take(): Promise<string[] | null> {
    while (this.#lines.length === 0 && this.#end === null) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const lines = this.#lines;
    if (lines.length > 0) {
      this.#lines = [];
      this.#paused?.resume();
      this.#paused = null;
      return lines;
    }
    if (this.#end?.error) throw this.#end.error;
    return null;
  }

  close(): void {
    this.#options.signal.removeEventListener('abort', this.#onStop);
    this.#cancelTimer();
    this.#ending.abort(new StoppedError('Stopped', 'the watch was given up'));
  }

  #onHead(head: Pick<Answer, 'status' | 'headers'>): void {
    this.#lastByte = this.#options.clock.monotonic();
    this.#head = head;
    refuseEncoding(head.headers);
    this.#options.onHead(head);
  }

  #onData(chunk: Buffer, flow: Flow): void {
    this.#lastByte = this.#options.clock.monotonic();
    if (this.#head?.status !== 200) {
      if (this.#refusal.reduce((sum, part) => sum + part.length, chunk.length) > LARGEST_REFUSAL) {
        throw new TransientError('TooLarge', 'a refusal without end');
      }
      this.#refusal.push(chunk);
      return;
    }
    for (const line of this.#split(chunk)) this.#lines.push(line);
    if (this.#lines.length >= PAUSE_AT) {
      flow.pause();
      this.#paused = flow;
    }
    this.#wake();
  }

  #split(chunk: Buffer): string[] {
    try {
      return this.#splitter.push(chunk);
    } catch {
      throw new TransientError('TooLarge', `a watch event of more than ${LONGEST_LINE} bytes`);
    }
  }

  #onEnd(): void {
    if (this.#head === null || this.#head.status !== 200) {
      const head = this.#head ?? { status: 0, headers: {} };
      return this.#finish(this.#options.refusal({ ...head, body: Buffer.concat(this.#refusal) }));
    }
    const isCut = this.#splitter.pendingBytes > 0;
    this.#finish(isCut ? new TransientError('Network', 'the watch ended in the middle of an event') : null);
  }

  #finish(error: Error | null): void {
    this.#end ??= { error };
    this.#wake();
  }

  // One timer for the whole watch, not one for each chunk: it looks how long ago the last byte came.
  #watchSilence(): void {
    const { clock, idleMs } = this.#options;
    const isAnswered = this.#head !== null;
    const mostMs = isAnswered ? idleMs : Math.min(idleMs, UNANSWERED_MS);
    const left = this.#lastByte + mostMs - clock.monotonic();
    if (left <= 0) {
      const what = isAnswered ? 'no byte of the watch for' : 'no answer to the watch within';
      const error = new TransientError('Silent', `${what} ${mostMs / 1000} s`);
      return this.#ending.abort(error);
    }
    this.#cancelTimer = clock.after(left, () => this.#watchSilence());
  }
}
