import { describe, expect, it } from 'vitest';
import {
  ConfigurationError,
  ConflictError,
  GoneError,
  outcomeOf,
  StoppedError,
  ThrottledError,
  TransientError,
} from '../src/errors.ts';

describe('outcomeOf', () => {
  it.each([
    [new ConfigurationError('A', 'a'), { kind: 'Configuration', code: 'A', message: 'a' }],
    [new TransientError('B', 'b'), { kind: 'Transient', code: 'B', message: 'b' }],
    [
      new ThrottledError('C', 'c', { retryAfterMs: 5 }),
      { kind: 'Throttled', code: 'C', message: 'c', retryAfterMs: 5 },
    ],
    [new ConflictError('D', 'd'), { kind: 'Conflict', code: 'D', message: 'd' }],
    [new GoneError('E', 'e'), { kind: 'Gone' }],
    [new StoppedError('F', 'f'), { kind: 'Stopped' }],
  ])('%s', (error, expected) => {
    expect(outcomeOf(error)).toEqual(expected);
  });
  it('keeps the text of a bug out of sight: nobody has vouched for it', () => {
    const outcome = outcomeOf(new TypeError('AKIACANARY is not a function'));
    expect(outcome).toMatchObject({ kind: 'Unexpected', code: 'Unexpected' });
    expect(JSON.stringify(outcome)).not.toContain('AKIACANARY');
  });
});
