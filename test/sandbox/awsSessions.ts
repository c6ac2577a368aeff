import { randomBytes } from 'node:crypto';
import type { AwsFailure, AwsRequest } from './awsWire.ts';

/** Who asks: a pair of keys, or a session that STS has opened. */
export interface Principal {
  readonly arn: string;
  readonly account: string;
  readonly endsAt: number | null; // ms on the stub's clock; null: keys of a user, which do not end
}

export interface AwsSession extends Principal {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly endsAt: number;
  readonly openedBy: string; // the access key id of who asked; '' for web identity
}

/** Users by their keys, and the sessions that STS has opened. Keys that nobody has registered are refused, if any are. */
export class AwsSessions {
  readonly opened: AwsSession[] = [];
  readonly #users = new Map<string, string>(); // access key id → account
  readonly #now: () => number;
  readonly #account: () => string;

  constructor(o: { now: () => number; account: () => string }) {
    this.#now = o.now;
    this.#account = o.account;
  }

  /** From the first call on, only registered keys are known. */
  addUser(accessKeyId: string, account = this.#account()): void {
    this.#users.set(accessKeyId, account);
  }

  removeUser(accessKeyId: string): void {
    this.#users.delete(accessKeyId);
  }

  open(roleArn: string, o: { sessionName: string; lifeMs: number; openedBy: string }): AwsSession {
    const account = roleArn.split(':')[4] ?? this.#account();
    const role = roleArn.split(':role/')[1] ?? roleArn;
    const secret = (bytes: number): string => randomBytes(bytes).toString('base64url');
    const session = {
      ...{ account, openedBy: o.openedBy, endsAt: this.#now() + o.lifeMs },
      arn: roleArn.replace(/:iam::(\d*):role\/.*/, `:sts::$1:assumed-role/${role}/${o.sessionName}`),
      accessKeyId: `ASIA${randomBytes(8).toString('hex').toUpperCase()}`,
      secretAccessKey: secret(30),
      sessionToken: secret(300),
    };
    this.opened.push(session);
    return session;
  }

  /** The principal of a request's keys, or why AWS refuses them. */
  principalOf({ accessKeyId, sessionToken, service }: AwsRequest): Principal | AwsFailure {
    const session = this.opened.find((candidate) => candidate.accessKeyId === accessKeyId);
    if (!session) return this.#userOf(accessKeyId, service);
    if (session.sessionToken !== sessionToken) return invalidToken(service);
    return this.#now() < session.endsAt ? session : expiredToken(service);
  }

  #userOf(accessKeyId: string, service: AwsRequest['service']): Principal | AwsFailure {
    const account = this.#users.size > 0 ? this.#users.get(accessKeyId) : this.#account();
    if (accessKeyId === '' || account === undefined) return invalidToken(service);
    return { arn: `arn:aws:iam::${account}:user/${accessKeyId.toLowerCase()}`, account, endsAt: null };
  }
}

export function expiredToken(service: AwsRequest['service']): AwsFailure {
  const message = 'The security token included in the request is expired';
  return service === 'sts'
    ? { error: 'ExpiredToken', status: 403, message }
    : { error: 'ExpiredTokenException', status: 400, message };
}

function invalidToken(service: AwsRequest['service']): AwsFailure {
  const message = 'The security token included in the request is invalid.';
  return service === 'sts'
    ? { error: 'InvalidClientTokenId', status: 403, message }
    : { error: 'UnrecognizedClientException', status: 400, message };
}
