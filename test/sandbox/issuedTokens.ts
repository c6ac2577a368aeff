import { randomBytes } from 'node:crypto';

/** A token as the stub of ECR has given it out. */
export interface IssuedToken {
  readonly auth: string; // base64 of `AWS:password`, as it goes into a Docker config
  readonly service: 'ecr' | 'ecr-public';
  readonly region: string;
  readonly accessKeyId: string; // who asked
  readonly account: string; // of who asked
  readonly issuedAt: number; // ms on the stub's clock, as all of these
  readonly expiresAt: number; // as it was told
  diesAt: number; // when the registry stops taking it: `expiresAt`, or sooner
}

export type TokenState = 'live' | 'expired' | 'unknown';

const PASSWORD_BYTES = 1536; // 2,048 characters: what AWS gives

/** Every token that was ever given out: tests look for them in places where none may be. */
export class IssuedTokens {
  readonly #byAuth = new Map<string, IssuedToken>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** No two are alike. `diesAfterMs`: earlier than told, as with the session that asked. */
  issue(
    o: Pick<IssuedToken, 'service' | 'region' | 'accessKeyId' | 'account'> & { lifeMs: number; diesAfterMs?: number },
  ): IssuedToken {
    const { lifeMs, diesAfterMs = lifeMs, ...rest } = o;
    const auth = Buffer.from(`AWS:${randomBytes(PASSWORD_BYTES).toString('base64url')}`).toString('base64');
    const issuedAt = this.#now();
    const token = {
      ...rest,
      auth,
      issuedAt,
      expiresAt: issuedAt + lifeMs,
      diesAt: issuedAt + Math.min(lifeMs, diesAfterMs),
    };
    this.#byAuth.set(auth, token);
    return token;
  }

  get all(): IssuedToken[] {
    return [...this.#byAuth.values()];
  }

  get last(): IssuedToken | undefined {
    return this.all.at(-1);
  }

  get(auth: string): IssuedToken | undefined {
    return this.#byAuth.get(auth);
  }

  stateOf(auth: string): TokenState {
    const token = this.#byAuth.get(auth);
    if (!token) return 'unknown';
    return this.#now() < token.diesAt ? 'live' : 'expired';
  }

  /** Ends the life of every token that was given out until now. */
  expireAll(): void {
    for (const token of this.#byAuth.values()) token.diesAt = Math.min(token.diesAt, this.#now());
  }

  /** What may stand nowhere but in pull secrets and the token store: each token as given, and its password. */
  get secrets(): string[] {
    return this.all.flatMap(({ auth }) => [auth, Buffer.from(auth, 'base64').toString().slice('AWS:'.length)]);
  }
}
