import { pino, stdTimeFunctions, type DestinationStream } from 'pino';

import { OperatorError, outcomeOf } from '../errors.ts';
import type { Redactor } from './redactor.ts';

/** What the operator uses of pino. An error goes under the key `err`. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

/** Lines of JSON with `level`, `time` and `message`; the one place where lines leave the process is the redactor's. */
export function createLogger({
  level,
  redactor,
  destination = pino.destination(1),
}: {
  level: string;
  redactor: Pick<Redactor, 'redact'>;
  destination?: DestinationStream;
}): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      messageKey: 'message',
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
    },
    { write: (line: string) => destination.write(redactor.redact(line)) },
  );
}

// Never the cause: it is an error of client, SDK or undici, with headers and bodies on it. A stack only where it is a
// bug of ours: those that are expected are told by their message.
function serializeError(error: unknown): object {
  if (!(error instanceof Error)) return { message: `not an Error: ${typeof error}` };
  const { name, message, stack } = error;
  const code = error instanceof OperatorError ? { code: error.code } : {};
  const isBug = outcomeOf(error).kind === 'Unexpected';
  return { name, ...code, message, ...(isBug && { stack }) };
}
