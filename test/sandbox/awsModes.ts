import type { AwsRequest, AwsService } from './awsWire.ts';

/** How a service behaves. */
export type AwsMode =
  | 'ok'
  | 'hang' // takes the request and never answers
  | 'stall' // sends the headers and no byte of the body
  | 'down' // the port is closed; for one key, region or operation alone: its connection is cut
  | 'denied'
  | 'expired' // the session that asks
  | 'throttled'
  | 'empty' // 200 and nothing in it
  | { readonly html: number } // a proxy's page of this status
  | {
      readonly error: string;
      readonly status?: number;
      readonly message?: string;
      readonly retryAfter?: number; /* s */
    };

/** Whom a mode is for: whatever is left out is any. */
export interface AwsScope {
  readonly service?: AwsService;
  readonly operation?: string;
  readonly region?: string;
  readonly accessKeyId?: string;
}

/** The modes in force. The narrowest scope wins, of equally narrow ones the last set. */
export class AwsModes {
  #rules: { scope: AwsScope; mode: AwsMode }[] = [];

  set(mode: AwsMode, scope: AwsScope = {}): void {
    const rest = this.#rules.filter((rule) => !isSame(rule.scope, scope));
    this.#rules = [...rest, { scope, mode }];
  }

  reset(): void {
    this.#rules = [];
  }

  of(request: Pick<AwsRequest, keyof AwsScope>): AwsMode {
    let found: { width: number; mode: AwsMode } = { width: -1, mode: 'ok' };
    for (const { scope, mode } of this.#rules) {
      const given = entries(scope);
      const matches = given.every(([name, value]) => request[name] === value);
      if (matches && given.length >= found.width) found = { width: given.length, mode };
    }
    return found.mode;
  }

  /** Whether the whole service is to be away, whoever asks. */
  isDown(service: AwsService): boolean {
    const whole = this.#rules.findLast(({ scope }) => isSame(scope, { service }));
    return (whole ?? this.#rules.findLast(({ scope }) => isSame(scope, {})))?.mode === 'down';
  }
}

function entries(scope: AwsScope): [keyof AwsScope, string][] {
  return Object.entries(scope).filter(([, value]) => value !== undefined) as [keyof AwsScope, string][];
}

function isSame(one: AwsScope, other: AwsScope): boolean {
  const given = entries(one);
  return given.length === entries(other).length && given.every(([name, value]) => other[name] === value);
}
