// The error classes, and how each is handled. Messages name the object, what was tried and the remedy; they are built
// from our own words and a Status' or an AWS error's name, never from bodies, headers or URLs: no secret reaches them.

/** What an error needs of the reconciler; the one vocabulary of conditions, events and metrics. */
export type ErrorCode = string;

export abstract class OperatorError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The user must act: a spec, a right, an AWS policy. Retried on a change, and slowly where nobody tells us of one. */
export class ConfigurationError extends OperatorError {}

/** It may work the next time: network, deadline, 5xx. Back-off with jitter; what is good stays. */
export class TransientError extends OperatorError {}

/** The other side asks for patience: nothing for that key or identity before `retryAfterMs`. */
export class ThrottledError extends OperatorError {
  readonly retryAfterMs: number; // ms

  constructor(code: ErrorCode, message: string, options: { retryAfterMs: number; cause?: unknown }) {
    super(code, message, options);
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** The object changed since it was read (409, or a JSON patch whose test failed): read again, decide again. */
export class ConflictError extends OperatorError {}

/** The object or its namespace is gone or going. Nothing to do, nothing to tell. */
export class GoneError extends OperatorError {}

/** The lease or the process is ending: the work was stopped before it was sent. */
export class StoppedError extends OperatorError {}

/** How the outcome of one unit of work is handled: the one switch over all errors. */
export type Outcome =
  | { kind: 'Done' }
  | { kind: 'Gone' }
  | { kind: 'Stopped' }
  | { kind: 'Conflict'; code: ErrorCode; message: string }
  | { kind: 'Throttled'; code: ErrorCode; message: string; retryAfterMs: number }
  | { kind: 'Transient'; code: ErrorCode; message: string }
  | { kind: 'Configuration'; code: ErrorCode; message: string }
  | { kind: 'Unexpected'; code: 'Unexpected'; message: string };

/** Maps what was thrown to how it is handled. What is none of ours is a bug: `Unexpected`, its text kept out of sight. */
export function outcomeOf(error: unknown): Outcome {
  if (error instanceof ThrottledError) {
    return { kind: 'Throttled', code: error.code, message: error.message, retryAfterMs: error.retryAfterMs };
  }
  if (error instanceof ConfigurationError) return { kind: 'Configuration', code: error.code, message: error.message };
  if (error instanceof TransientError) return { kind: 'Transient', code: error.code, message: error.message };
  if (error instanceof ConflictError) return { kind: 'Conflict', code: error.code, message: error.message };
  if (error instanceof GoneError) return { kind: 'Gone' };
  if (error instanceof StoppedError) return { kind: 'Stopped' };
  const name = error instanceof Error ? error.name : typeof error;
  return {
    kind: 'Unexpected',
    code: 'Unexpected',
    message: `unexpected ${name}: this is a bug, its stack is in the log`,
  };
}
