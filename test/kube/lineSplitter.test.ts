import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { LineSplitter } from '../../src/kube/lineSplitter.ts';

describe('LineSplitter', () => {
  it('gives the same lines however the bytes are cut', () => {
    const line = fc.string({ unit: 'grapheme', minLength: 1 }).map((text) => JSON.stringify({ text }));
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.nat()), (lines, cuts) => {
        const bytes = Buffer.from(lines.map((each) => `${each}\n`).join(''));
        const splitter = new LineSplitter(1_000_000);
        const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
        let start = 0;
        const got = ends.flatMap((end) => {
          const part = splitter.push(bytes.subarray(start, end));
          start = end;
          return part;
        });
        expect(got).toEqual(lines);
        expect(splitter.pendingBytes).toBe(0);
      }),
    );
  });

  it('leaves empty lines and carriage returns out', () => {
    expect(new LineSplitter(100).push(Buffer.from('\n{"a":1}\r\n\n \n{"b":2}\n'))).toEqual(['{"a":1}', '{"b":2}']);
  });

  it('refuses a line without end', () => {
    const splitter = new LineSplitter(10);
    splitter.push(Buffer.from('12345\n1234567890'));
    expect(splitter.pendingBytes).toBe(10);
    expect(() => splitter.push(Buffer.from('1'))).toThrow(RangeError);
  });
});
