import { OperatorError, ThrottledError, TransientError } from '../errors.ts';
import { readStatus, statusError } from './answerError.ts';
import { ApiStatusError } from './apiStatusError.ts';
import type { KubeObject } from './kubeObject.ts';
import { parseResourcePath } from './resourcePath.ts';

// What a reflector takes its errors for.

export function checked(object: KubeObject, kind: string): KubeObject {
  // What came over the wire has the type's shape only if the server keeps its word.
  const { metadata } = object as Partial<KubeObject>;
  if (typeof metadata?.name === 'string') return object;
  throw new TransientError('NotKubernetes', `an object of ${kind} has no name`);
}

export function errorOfEvent(object: unknown, path: string): Error {
  const status = readStatus(object);
  if (status === null) return new TransientError('NotKubernetes', 'an ERROR event without a Status');
  return statusError(status, { verb: 'watch', ...parseResourcePath(path) });
}

/** A list that has begun cannot be gone on with: its snapshot is compacted (410), or the server does not know the token (400). */
export function asExpired(error: unknown): unknown {
  const isLost = error instanceof ApiStatusError && error.status === 400;
  return isLost ? new TransientError('Expired', `${error.message}: the list must begin anew`, { cause: error }) : error;
}

export function isExpired(error: unknown): boolean {
  if (error instanceof ApiStatusError) return error.status === 410;
  return codeOf(error) === 'Expired' || codeOf(error) === 'Silent';
}

/** No watch from that resourceVersion will do: list. */
export function isUselessVersion(error: unknown): boolean {
  return error instanceof ApiStatusError || isExpired(error) || codeOf(error) === 'ResourceVersionTooLarge';
}

export function retryAfterMs(error: unknown): number {
  return error instanceof ThrottledError ? error.retryAfterMs : 0;
}

function codeOf(error: unknown): string {
  return error instanceof OperatorError ? error.code : 'Unexpected';
}
