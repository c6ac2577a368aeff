import { array, assert, pre, property, string } from 'fast-check';
import { describe, expect, it } from 'vitest';

import { Redactor } from '../../src/observability/redactor.ts';

const KEY = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';
const PASSWORD = `eyJwYXlsb2FkIjoi${'aB3+/x9Q'.repeat(40)}In0=`;
const AUTH = Buffer.from(`AWS:${PASSWORD}`).toString('base64');

function redactorOf(...secrets: string[]): Redactor {
  const redactor = new Redactor();
  for (const secret of secrets) redactor.add(secret);
  return redactor;
}

describe('a secret is taken out however it is written', () => {
  const redactor = redactorOf(KEY, AUTH, 'quote"and\\slash');
  it.each([
    ['as is', `key ${KEY}.`, 'key [redacted].'],
    ['twice', `${KEY} ${KEY}`, '[redacted] [redacted]'],
    ['base64', `x ${Buffer.from(KEY).toString('base64')} y`, 'x [redacted] y'],
    ['URL-encoded', `?k=${encodeURIComponent(KEY)}&`, '?k=[redacted]&'],
    ['escaped in JSON', JSON.stringify({ a: 'quote"and\\slash' }), '{"a":"[redacted]"}'],
    ['an authorization token', `Basic ${AUTH}`, 'Basic [redacted]'],
    ['the password of an authorization token', `p=${PASSWORD};`, 'p=[redacted];'],
    ['a token that was cut', `p=${PASSWORD.slice(0, 100)}`, 'p=[redacted]'],
  ])('%s', (_, text, expected) => {
    expect(redactor.redact(text)).toBe(expected);
  });

  it.each([0, 1, 2, 3, 4, 5])('within a longer base64 text, %i bytes in', (before) => {
    const outer = Buffer.from(`${'z'.repeat(before)}${KEY}zzz`).toString('base64');
    const redacted = redactor.redact(outer);
    expect(redacted).toContain('[redacted]');
    expect(redacted.length).toBeLessThan(outer.length - 30);
  });
});

it('leaves all else alone', () => {
  const redactor = redactorOf(KEY, AUTH);
  for (const text of ['', 'short', 'wJalrXUt begins like the key', KEY.slice(1), 'QVdTOmV5 is how tokens begin']) {
    expect(redactor.redact(text)).toBe(text);
  }
});

it('passes over secrets that could be words', () => {
  expect(redactorOf('', 'default').redact('namespace default')).toBe('namespace default');
});

it('forgets a secret when everyone who added it has removed it', () => {
  const redactor = redactorOf(KEY, KEY);
  redactor.remove(KEY);
  expect(redactor.redact(KEY)).toBe('[redacted]');
  redactor.remove(KEY);
  expect(redactor.redact(KEY)).toBe(KEY);
  redactor.remove(KEY);
});

it('keeps a password that is live by itself when the token with it goes', () => {
  const redactor = redactorOf(AUTH, PASSWORD);
  redactor.remove(AUTH);
  expect(redactor.redact(`p=${PASSWORD}.`)).toBe('p=[redacted].');
});

it('keeps no more than the newest thousands, so that years of tokens cost no memory', () => {
  const redactor = new Redactor();
  for (let i = 0; i < 4100; i++) redactor.add(`secret-number-${i}.`);
  expect(redactor.redact('secret-number-0.')).toBe('secret-number-0.');
  expect(redactor.redact('secret-number-4099.')).toBe('[redacted]');
});

it('no secret of any set survives in any text', () => {
  const secret = string({ minLength: 8, maxLength: 40 });
  assert(
    property(array(secret, { minLength: 1, maxLength: 5 }), string(), string(), (secrets, before, after) => {
      const redactor = redactorOf(...secrets);
      for (const one of secrets) {
        pre(!'[redacted]'.includes(one));
        const redacted = redactor.redact(`${before}${one}${after}`);
        expect(redacted.replaceAll('[redacted]', '')).not.toContain(one);
      }
    }),
  );
});

it('finds each of hundreds of tokens that begin alike, and is quick about it', () => {
  const tokens = Array.from({ length: 100 }, (_, i) => Buffer.from(`AWS:${PASSWORD}${i}`).toString('base64'));
  const redactor = redactorOf(...tokens);
  for (const token of tokens) expect(redactor.redact(`Basic ${token}.`)).toBe('Basic [redacted].');
});
