import { TransientError } from '../errors.ts';
import type { Answer } from './answerError.ts';
import { describe, type Asked } from './apiStatusError.ts';
import type { WatchEvent } from './kubeObject.ts';

/**
 * The object of a good answer. A proxy's page, an empty body, a Status in place of an object and a list without the key
 * `items` are TransientErrors, never an empty list: things are removed on the word of a list.
 */
export function parseAnswer(answer: Answer, asked: Asked): unknown {
  const value = parseObject(answer.body.toString('utf8'), asked);
  if (asked.resource === null) return value;
  const { kind } = value;
  if (typeof kind !== 'string') throw noKubernetes(asked, 'an object without a kind');
  if (kind === 'Status' && asked.verb !== 'delete') throw noKubernetes(asked, 'a Status in place of an object');
  if (asked.verb !== 'list') return value;
  if (!kind.endsWith('List') || !('items' in value)) throw noKubernetes(asked, 'no list');
  // An empty list of metadata has `null`.
  value['items'] ??= [];
  if (!Array.isArray(value['items'])) throw noKubernetes(asked, 'a list whose items are none');
  return value;
}

/** One line of a watch. */
export function parseEvent(line: string, asked: Asked): WatchEvent {
  const { type, object } = parseObject(line, asked);
  if (!TYPES.has(type) || typeof object !== 'object' || object === null) throw noKubernetes(asked, 'no event');
  if (type !== 'ERROR' && !('metadata' in object)) throw noKubernetes(asked, 'an event without an object');
  return { type, object } as WatchEvent;
}

const TYPES: ReadonlySet<unknown> = new Set(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK', 'ERROR']);

function parseObject(text: string, asked: Asked): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // A SyntaxError quotes the text.
    throw noKubernetes(asked, text === '' ? 'nothing' : 'something that is no JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw noKubernetes(asked, 'no object');
  return value as Record<string, unknown>;
}

function noKubernetes(asked: Asked, what: string): TransientError {
  return new TransientError('NotKubernetes', `${describe(asked)}: the answer is ${what}: is it a proxy that answers?`);
}
