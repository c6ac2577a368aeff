import type { LookupFunction } from 'node:net';
import { expect, test } from 'vitest';
import { sharedLookup } from '../../src/kube/sharedLookup.ts';

type Answer = Parameters<Parameters<LookupFunction>[2]>;

/** A resolver that answers when it is told to. */
function slowResolver(): { lookup: LookupFunction; asked: string[]; answer: (...answer: Answer) => void } {
  const asked: string[] = [];
  const waiting: ((...answer: Answer) => void)[] = [];
  return {
    asked,
    lookup: (hostname, _options, callback) => {
      asked.push(hostname);
      waiting.push(callback);
    },
    answer: (...answer) => waiting.shift()?.(...answer),
  };
}

test('who asks while the same name is asked for gets the same answer', () => {
  const resolver = slowResolver();
  const lookup = sharedLookup(resolver.lookup);
  const answers: Answer[] = [];
  for (let i = 0; i < 12; i++) lookup('api.test', { all: true }, (...answer) => answers.push(answer));
  expect(resolver.asked).toEqual(['api.test']);
  const found: Answer = [null, [{ address: '127.0.0.1', family: 4 }]];
  resolver.answer(...found);
  expect(answers).toEqual(Array.from({ length: 12 }, () => found));
});

test('who asks after the answer asks anew', () => {
  const resolver = slowResolver();
  const lookup = sharedLookup(resolver.lookup);
  const answers: Answer[] = [];
  for (const address of ['127.0.0.1', '127.0.0.2']) {
    lookup('api.test', {}, (...answer) => answers.push(answer));
    resolver.answer(null, address, 4);
  }
  expect(answers).toEqual([
    [null, '127.0.0.1', 4],
    [null, '127.0.0.2', 4],
  ]);
});

test('an error is for all who waited, and for nobody else', () => {
  const resolver = slowResolver();
  const lookup = sharedLookup(resolver.lookup);
  const errors: (string | undefined)[] = [];
  for (let i = 0; i < 2; i++) lookup('api.test', {}, (error) => errors.push(error?.code));
  resolver.answer(Object.assign(new Error('getaddrinfo EAI_AGAIN api.test'), { code: 'EAI_AGAIN' }), '');
  lookup('api.test', {}, (error) => errors.push(error?.code));
  resolver.answer(null, '127.0.0.1', 4);
  expect(errors).toEqual(['EAI_AGAIN', 'EAI_AGAIN', undefined]);
});

test('another name, and another kind of answer, is asked for by itself', () => {
  const resolver = slowResolver();
  const lookup = sharedLookup(resolver.lookup);
  lookup('api.test', {}, () => undefined);
  lookup('other.test', {}, () => undefined);
  lookup('api.test', { all: true }, () => undefined);
  lookup('api.test', { family: 6 }, () => undefined);
  expect(resolver.asked).toEqual(['api.test', 'other.test', 'api.test', 'api.test']);
});
