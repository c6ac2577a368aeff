import { ConflictError, GoneError, ThrottledError, TransientError, type OperatorError } from '../errors.ts';
import { ApiStatusError, describe, type Asked, type StatusCause } from './apiStatusError.ts';
import { isWebhookDenial, remedyOf, unansweredWebhook } from './refusalRemedy.ts';

export interface Answer {
  status: number; // HTTP
  headers: Readonly<Record<string, string | string[] | undefined>>;
  body: Buffer;
}

/** The error that a refusing answer stands for. Only what an API server wrote counts as its word: a proxy's page never does. */
export function answerError(answer: Answer, asked: Asked, o: { jsonPatch: boolean; now: number }): OperatorError {
  if (answer.status >= 300 && answer.status < 400) {
    return new TransientError('Redirect', `${describe(asked)}: the API server's address redirects (${answer.status})`);
  }
  const status = parseStatus(answer);
  if (status === null) return noStatus(answer, asked, o.now);
  return statusError(status, asked, { jsonPatch: o.jsonPatch, retryAfterMs: retryAfter(answer, o.now) });
}

export interface Status {
  code: number;
  reason: string;
  message: string;
  causes: StatusCause[];
  retryAfterMs: number | null;
}

/** The error of a Status, from an answer or an ERROR event. */
export function statusError(
  status: Status,
  asked: Asked,
  o: { jsonPatch?: boolean; retryAfterMs?: number | null } = {},
): OperatorError {
  const { code, reason } = status;
  const fail = `${describe(asked)}: ${code} ${reason}`;
  if (isWebhookDenial(status.message)) return refusal(status, asked);
  if (code === 401) return unauthorized(asked);
  if (code === 429 || code >= 500) return serverError(status, fail, o.retryAfterMs ?? null);
  if (o.jsonPatch === true && isFailedTest(status)) return new ConflictError('PatchTestFailed', fail);
  return goneOrConflict(status, fail) ?? refusal(status, asked);
}

function isFailedTest({ code, causes }: Status): boolean {
  return code === 422 && causes.length === 0;
}

/** A Status as it came, or null where it is none. */
export function readStatus(value: unknown): Status | null {
  const status = fields(value);
  if (status['kind'] !== 'Status' || typeof status['code'] !== 'number') return null;
  const details = fields(status['details']);
  const causes = Array.isArray(details['causes']) ? details['causes'] : [];
  const seconds = details['retryAfterSeconds'];
  return {
    code: status['code'],
    reason: text(status['reason']) ?? 'Unknown',
    message: text(status['message']) ?? '',
    causes: causes.map(readCause),
    retryAfterMs: typeof seconds === 'number' && seconds > 0 ? within(seconds * 1000) : null,
  };
}

/** ms; null without the header. A date counts from the answer's own Date, so the clocks need not agree. */
export function retryAfter({ headers }: Pick<Answer, 'headers'>, now: number): number | null {
  const value = headers['retry-after'];
  if (typeof value !== 'string') return null;
  if (/^\d+$/.test(value.trim())) return within(Number(value) * 1000);
  const date = Date.parse(value);
  if (Number.isNaN(date)) return null;
  const sent = Date.parse(String(headers['date']));
  return within(date - (Number.isNaN(sent) ? now : sent));
}

const LONGEST_RETRY_AFTER_MS = 300_000; // nobody's word stops us for hours

function within(ms: number): number {
  return Math.min(Math.max(ms, 100), LONGEST_RETRY_AFTER_MS);
}

function serverError(status: Status, fail: string, headerMs: number | null): OperatorError {
  const retryAfterMs = headerMs ?? status.retryAfterMs;
  if (status.code === 429) return new ThrottledError('TooManyRequests', fail, { retryAfterMs: retryAfterMs ?? 1000 });
  const tooLarge = status.causes.some((cause) => cause.reason === 'ResourceVersionTooLarge');
  const code = tooLarge ? 'ResourceVersionTooLarge' : status.reason;
  const webhook = unansweredWebhook(status.message);
  const told = webhook === null ? fail : `${fail}: ${webhook}${remedyOf(status.code, webhook)}`;
  if (retryAfterMs === null) return new TransientError(code, told);
  return new ThrottledError(code, told, { retryAfterMs });
}

function goneOrConflict({ code, reason, causes }: Status, fail: string): OperatorError | null {
  const has = (wanted: string): boolean => causes.some((cause) => cause.reason === wanted);
  if (code === 403 && has('NamespaceTerminating')) return new GoneError('NamespaceTerminating', fail);
  if (code !== 409 || has('FieldManagerConflict')) return null;
  return new ConflictError(reason === 'AlreadyExists' ? 'AlreadyExists' : 'Conflict', fail);
}

function refusal(status: Status, asked: Asked): ApiStatusError {
  const visible = asked.resource?.split('/')[0] === 'secrets' ? withoutData(status) : status;
  const { message, causes } = visible;
  return new ApiStatusError(asked, { status: status.code, reason: status.reason, message, causes });
}

function unauthorized(asked: Asked): OperatorError {
  return new TransientError('Unauthorized', `${describe(asked)}: the API server does not accept our token (401)`);
}

function noStatus(answer: Answer, asked: Asked, now: number): OperatorError {
  const { status } = answer;
  const fail = `${describe(asked)}: HTTP ${status}`;
  if (status === 401) return unauthorized(asked);
  if (status === 429 || status === 503) {
    const retryAfterMs = retryAfter(answer, now);
    if (status === 429 || retryAfterMs !== null) {
      return new ThrottledError(`HTTP${status}`, fail, { retryAfterMs: retryAfterMs ?? 1000 });
    }
  }
  // The API server's words where it has no such API group or resource, in plain text.
  if (status === 404 && answer.body.toString('latin1').trim() === '404 page not found') {
    return new ApiStatusError(asked, { status, reason: 'NotFound', message: 'no such API', causes: [] });
  }
  return new TransientError(`HTTP${status}`, `${fail} without a Status: is it a proxy that answers?`);
}

function parseStatus(answer: Answer): Status | null {
  try {
    return readStatus(JSON.parse(answer.body.toString('utf8')));
  } catch {
    return null;
  }
}

// What the API server, its admission and its validation say of a Secret, and is known to hold no data of it.
const HARMLESS = [
  /ValidatingAdmissionPolicy '[^']*' with binding '[^']*' denied request: .{0,300}/,
  /conflict with "[^"]{0,128}"(?: with subresource "[^"]*")?(?: using [\w./-]+)?/,
  /field is immutable(?: when `immutable` is set)?/,
  /admission webhook "[^"]{0,253}" denied the request/,
  /exceeded quota: [\w.-]+/,
  /User "[^"]{0,253}" cannot \w+ resource "[\w./-]+"[\w ".-]{0,300}/,
  /(?:secrets|namespaces) "[\w.-]+" not found/,
];

function withoutData(status: Status): { message: string; causes: StatusCause[] } {
  return {
    message: harmless(status.message) ?? '',
    causes: status.causes.map((cause) => {
      const message = harmless(cause.message ?? '');
      const { message: _, ...rest } = cause;
      return message === null ? rest : { ...rest, message };
    }),
  };
}

function harmless(message: string): string | null {
  for (const pattern of HARMLESS) {
    const found = pattern.exec(message);
    if (found !== null) return found[0];
  }
  return null;
}

function readCause(value: unknown): StatusCause {
  const { reason, message, field } = fields(value);
  return {
    ...(typeof reason === 'string' && { reason }),
    ...(typeof message === 'string' && { message }),
    ...(typeof field === 'string' && { field }),
  };
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}
