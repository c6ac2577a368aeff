/** A request as faults, authorisation and the audit see it. */
export interface RequestInfo {
  readonly user: string;
  /** As RBAC has it; `apply` shows in `patch`. */
  readonly verb: 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';
  readonly group: string;
  readonly resource: string; // plural; the path where it is none of a resource
  readonly subresource: string;
  readonly namespace: string;
  /** Also of a list with `fieldSelector=metadata.name=X`. */
  readonly name: string;
  readonly patch: 'json' | 'merge' | 'apply' | 'strategic' | null;
  readonly dryRun: boolean;
  readonly method: string;
  readonly url: string;
}

/**
 * What goes wrong with a request. `cutAfter` carries it out and cuts the connection before the answer; `hold` answers
 * when `until` resolves, or never.
 */
export type Fault =
  | { readonly kind: 'delay'; readonly ms: number }
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body?: string | object;
      readonly headers?: Record<string, string>;
    }
  | { readonly kind: 'cut' }
  | { readonly kind: 'cutAfter' }
  | { readonly kind: 'hold'; readonly until?: Promise<unknown> };

export type Faults = (request: RequestInfo) => Fault | null;

/** The answer of a proxy or a captive portal. */
export function htmlPage(status: number): Fault {
  return {
    kind: 'answer',
    status,
    body: '<!DOCTYPE html><html><body>Please sign in to the network</body></html>',
    headers: { 'content-type': 'text/html' },
  };
}

/** Too busy, as priority and fairness says it. */
export function tooManyRequests(retryAfterSeconds = 1): Fault {
  return {
    kind: 'answer',
    status: 429,
    body: {
      ...{ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure' },
      message: 'too many requests, please try again later',
      reason: 'TooManyRequests',
      details: { retryAfterSeconds },
      code: 429,
    },
    headers: { 'retry-after': String(retryAfterSeconds) },
  };
}

/** An API server that ends or begins. */
export function unavailable(): Fault {
  const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code: 503 };
  return { kind: 'answer', status: 503, body: { ...body, reason: 'ServiceUnavailable', message: 'not ready' } };
}
