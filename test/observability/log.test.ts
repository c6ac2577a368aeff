import { describe, expect, it } from 'vitest';

import { ConfigurationError, TransientError } from '../../src/errors.ts';
import { createLogger, type Logger } from '../../src/observability/log.ts';
import { Redactor } from '../../src/observability/redactor.ts';

const SECRET = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';

function lines(write: (log: Logger) => void, level = 'info'): Record<string, unknown>[] {
  const written: string[] = [];
  const redactor = new Redactor();
  redactor.add(SECRET);
  write(createLogger({ level, redactor, destination: { write: (line) => written.push(line) } }));
  expect(written.join('')).not.toContain(SECRET);
  return written.map((line) => JSON.parse(line) as Record<string, unknown>);
}

it('writes JSON with the level by name, the time in ISO form and the message', () => {
  const [line] = lines((log) => log.info({ namespace: 'team-a' }, 'namespace served'));
  expect(line).toEqual({
    level: 'info',
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as unknown,
    namespace: 'team-a',
    message: 'namespace served',
  });
});

it('says nothing below its level', () => {
  expect(lines((log) => log.debug({}, 'x'))).toEqual([]);
  expect(lines((log) => log.debug({}, 'x'), 'debug')).toHaveLength(1);
});

it('a child has the fields of its parent', () => {
  expect(lines((log) => log.child({ part: 'broker' }).warn({ a: 1 }, 'x'))).toMatchObject([{ part: 'broker', a: 1 }]);
});

describe('errors', () => {
  const cause = new Error(`Authorization: Basic ${SECRET}`);

  it('an expected one has code and message; neither its stack nor its cause', () => {
    const error = new TransientError('Timeout', 'no answer from the API server in 8 s', { cause });
    const [line] = lines((log) => log.warn({ err: error }, 'not written'));
    expect(line?.err).toEqual({
      name: 'TransientError',
      code: 'Timeout',
      message: 'no answer from the API server in 8 s',
    });
  });

  it('a bug has its stack, without its cause', () => {
    const error = new TypeError('x is not a function', { cause });
    const [line] = lines((log) => log.error({ err: error }, 'failed'));
    expect(line?.err).toMatchObject({ name: 'TypeError', stack: expect.stringContaining('log.test.ts') as unknown });
    expect(JSON.stringify(line)).not.toContain('Authorization');
  });

  it('what is no Error is not printed', () => {
    const [line] = lines((log) => log.error({ err: { token: 'abc' } }, 'failed'));
    expect(line?.err).toEqual({ message: 'not an Error: object' });
  });
});

it('takes secrets out of messages, errors and nested fields, of children too', () => {
  const error = new ConfigurationError('AccessDenied', `key ${SECRET} is refused`);
  const all = lines((log) => {
    const child = log.child({ inherited: SECRET });
    child.info({ a: { b: [SECRET] } }, `message ${SECRET}`);
    child.error({ err: error }, 'x');
  });
  expect(all).toMatchObject([
    { inherited: '[redacted]', a: { b: ['[redacted]'] }, message: 'message [redacted]' },
    { err: { message: 'key [redacted] is refused' } },
  ]);
});
