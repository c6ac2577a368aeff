import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../../src/clock.ts';

// What becomes of the bytes of a watch on their way. Where one of these throws, the connection is reset.

export type Bytes = AsyncIterable<Buffer | string>;
export type Transform = (bytes: AsyncIterable<Buffer>) => Bytes;

/** What has passed through a transform. */
export interface Passed {
  eventsIn: number;
  eventsOut: number;
  pieces: number;
}

/** The transform, and what passes through it from now on. */
export function counted(transform: Transform): { body: Transform; passed: Passed } {
  const passed: Passed = { eventsIn: 0, eventsOut: 0, pieces: 0 };
  const body: Transform = async function* (bytes) {
    for await (const piece of transform(counting(bytes, (events) => (passed.eventsIn += events)))) {
      passed.eventsOut += linesIn(Buffer.from(piece));
      passed.pieces += 1;
      yield piece;
    }
  };
  return { body, passed };
}

async function* counting(bytes: AsyncIterable<Buffer>, add: (events: number) => void): AsyncGenerator<Buffer> {
  for await (const chunk of bytes) {
    add(linesIn(chunk));
    yield chunk;
  }
}

function linesIn(bytes: Buffer): number {
  return bytes.reduce((count, byte) => count + (byte === 0x0a ? 1 : 0), 0);
}

/**
 * The same bytes in pieces of this many, within lines and within characters. One at each turn of the event loop: a timer
 * takes a millisecond, and a watch that is seconds behind would be another fault.
 */
export function inPieces(size: number): Transform {
  return async function* (bytes) {
    for await (const chunk of bytes) {
      for (let at = 0; at < chunk.length; at += size) {
        yield chunk.subarray(at, at + size);
        await turn();
      }
    }
  };
}

/** Ends in the middle of the first event: cleanly, or by a reset. */
export function cutInEvent(by: 'end' | 'reset', where: (line: Buffer) => number = middle): Transform {
  return async function* (bytes) {
    for await (const line of lines(bytes)) {
      yield line.subarray(0, where(line));
      await sleep(20); // so that it is sent before the reset
      if (by === 'end') return;
      throw new Error('cut');
    }
  };
}

const middle = (line: Buffer): number => line.length >> 1;

/** After the first byte of the first character that has several; in the middle where there is none. */
export function withinCharacter(line: Buffer): number {
  const at = line.findIndex((byte) => byte >= 0xc0);
  return at < 0 ? middle(line) : at + 1;
}

/** Whether what comes after the cut is the rest of a character. */
export function splitsCharacter(line: Buffer, at: number): boolean {
  return ((line[at] ?? 0) & 0xc0) === 0x80;
}

/** A line without end in place of the first event. */
export function hugeLine(bytes: number): Transform {
  return async function* () {
    yield '{"type":"ADDED","object":{"metadata":{"name":"';
    for (let sent = 0; sent < bytes; sent += 2 ** 16) yield 'x'.repeat(2 ** 16);
    yield '"}}}\n';
  };
}

/** Each event twice. */
export const twice: Transform = async function* (bytes) {
  for await (const line of lines(bytes)) yield* [line, line];
};

/** Each event late, the streams of several kinds each by its own time: so they overtake each other. */
export function late(random: Random, mostMs: number): Transform {
  return async function* (bytes) {
    const delayMs = random() * mostMs;
    for await (const line of lines(bytes)) {
      await sleep(delayMs);
      yield line;
    }
  };
}

/** Nothing until the gate opens; then of each object the last event alone, as after a list that was missed. */
export function coalesced(gate: Promise<unknown>): Transform {
  return async function* (bytes) {
    const held = new Map<string, Buffer>();
    const iterator = lines(bytes)[Symbol.asyncIterator]();
    let next = iterator.next();
    for (;;) {
      const got = await Promise.race([next, gate.then(() => null)]);
      if (got === null) break;
      if (got.done === true) return;
      const key = keyOf(got.value);
      held.delete(key);
      held.set(key, got.value);
      next = iterator.next();
    }
    yield* held.values();
    for (let got = await next; got.done !== true; got = await iterator.next()) yield got.value;
  };
}

function keyOf(line: Buffer): string {
  const { object } = JSON.parse(line.toString('utf8')) as {
    object: { metadata: { namespace?: string; name?: string } };
  };
  return `${object.metadata.namespace}/${object.metadata.name}`;
}

/** Whole lines, each with its end. */
async function* lines(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const chunk of bytes) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      yield rest.subarray(0, end + 1);
      rest = rest.subarray(end + 1);
    }
  }
}
