import type { Clock } from '../clock.ts';
import { fingerprint } from '../core/fingerprint.ts';
import { OperatorError, StoppedError, TransientError } from '../errors.ts';
import type { Logger } from '../observability/log.ts';
import { AwsClients, type HeldClient, type TokenAnswer } from './awsClients.ts';
import { awsEndpoint } from './awsEndpoints.ts';
import { explainAwsError, isExpiredSession, isStaleSignature } from './awsErrors.ts';
import { createAwsTransport, type AwsAnswer } from './awsTransport.ts';
import type { Identity } from './identity.ts';
import { remedies } from './remedies.ts';
import { openSession, type SecretSink } from './session.ts';

export type EcrService = 'ecr' | 'ecr-public';

/** One token serves the registries of all accounts in a region, as far as the identity may pull there. */
export interface TokenRequest {
  readonly identity: Identity;
  readonly service: EcrService;
  readonly region: string;
}

/** A token, with times on the server's clock. */
export interface AuthorizationToken {
  readonly auth: string; // base64 of user:password, as it goes into .dockerconfigjson
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  readonly sessionEndsAt: Date | null; // the earliest end of the sessions that asked; null: none is known
}

/**
 * Names what a token is for: requests that differ in identity, endpoint, region or service share no key. Holds no
 * secret in clear: the secret parts of keys go in as a hash of the whole. The session's own, new in each refresh, are
 * not in it.
 */
export function tokenKey(request: TokenRequest, env: NodeJS.ProcessEnv): string {
  const { identity, service, region } = request;
  const { source, chain } = identity;
  return fingerprint([
    service,
    awsEndpoint(service, region, env),
    chain.length === 0 ? null : awsEndpoint('sts', region, env),
    source.kind === 'operator'
      ? ['operator', ...OPERATOR_VARIABLES.map((name) => env[name] ?? null)]
      : [
          'accessKey',
          source.accessKeyId,
          fingerprint(source.secretAccessKey),
          fingerprint(source.sessionToken ?? null),
        ],
    chain.map((step) => [
      step.roleArn,
      step.externalId ?? null,
      step.sessionName ?? null,
      step.durationSeconds ?? null,
    ]),
  ]);
}

// Where the operator's own identity comes from; not what rotates, as a session's token or what is in the files.
const OPERATOR_VARIABLES = [
  'AWS_ACCESS_KEY_ID',
  'AWS_PROFILE',
  'AWS_SHARED_CREDENTIALS_FILE',
  'AWS_CONFIG_FILE',
  'AWS_ROLE_ARN',
  'AWS_ROLE_SESSION_NAME',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
];

/** A call of AWS with all its tries ends after this, ms. */
const CALL_DEADLINE_MS = 30_000;

export interface AuthorizationTokenSourceOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: { awsRequest(service: string, operation: string, code: string): void };
  readonly redactor: { add(secret: string): void };
}

/** Gets tokens from ECR and ECR Public. Every call opens a new session first, where the source can give one. */
export class AuthorizationTokenSource {
  readonly #options: AuthorizationTokenSourceOptions;
  readonly #clients: AwsClients;
  #serverTimeOffsetMs: number | null = null;

  constructor(options: AuthorizationTokenSourceOptions) {
    this.#options = options;
    const { env } = options;
    this.#clients = new AwsClients({
      env,
      transport: createAwsTransport(env),
      onAnswer: (answer) => this.#observe(answer),
    });
  }

  /** AWS' clock minus ours, ms, as of the last answer; null before the first. */
  serverTimeOffsetMs(): number | null {
    return this.#serverTimeOffsetMs;
  }

  /**
   * Rejects with ConfigurationError, ThrottledError or TransientError, whose message says what to do; with StoppedError
   * where the signal ends it.
   */
  async fetch(request: TokenRequest, signal: AbortSignal): Promise<AuthorizationToken> {
    try {
      return await this.#attempt(request, signal);
    } catch (error) {
      if (!(error instanceof AttemptError)) throw error;
      if (!error.worthAnother || signal.aborted) throw error.reason;
      this.#options.log.info({ region: request.region, code: error.reason.code }, 'asking AWS again at once');
    }
    try {
      return await this.#attempt(request, signal);
    } catch (error) {
      throw error instanceof AttemptError ? error.reason : error;
    }
  }

  async #attempt(request: TokenRequest, signal: AbortSignal): Promise<AuthorizationToken> {
    const { clock } = this.#options;
    const startedAt = { wall: clock.now(), monotonic: clock.monotonic() };
    const deadline = new AbortController();
    const cancel = clock.after(CALL_DEADLINE_MS, () => deadline.abort());
    const either = AbortSignal.any([signal, deadline.signal]);
    try {
      return await unlessAborted(this.#ask(request, either), either, tooLate(request));
    } catch (error) {
      if (signal.aborted) throw new StoppedError('Stopped', 'the call of AWS was given up', { cause: error });
      const elapsed = Math.max(clock.now() - startedAt.wall, clock.monotonic() - startedAt.monotonic);
      // A process that was stopped finds all its time limits passed when it wakes, whatever the other side did.
      const wasFrozen = elapsed > CALL_DEADLINE_MS + FROZEN_MS;
      throw attemptError(error, { wasFrozen, request });
    } finally {
      cancel();
    }
  }

  async #ask(request: TokenRequest, signal: AbortSignal): Promise<AuthorizationToken> {
    const { env } = this.#options;
    const { identity, service } = request;
    const { region } = awsEndpoint(service, request.region, env);
    const owner = tokenKey(request, env);
    const secrets = this.#secretSink();
    const session = await openSession(identity, { owner, region, env, clients: this.#clients, secrets, signal });
    const client = this.#clients.client(owner, service, region);
    try {
      const answer = await client.getAuthorizationToken(session.credentials, signal);
      secrets.add(answer.authorizationToken);
      return this.#tokenOf(answer, client, { request, sessionEndsAt: session.endsAt });
    } catch (error) {
      throw explainAwsError(error, {
        action: `${service}:GetAuthorizationToken`,
        region,
        host: client.transport.lastHost,
        source: identity.source,
        roleArn: identity.chain.at(-1)?.roleArn ?? null,
        secrets: secrets.values,
      });
    }
  }

  // An empty answer is no error to the SDK, whoever sent it.
  #tokenOf(
    answer: TokenAnswer,
    { transport }: HeldClient,
    { request, sessionEndsAt }: { request: TokenRequest; sessionEndsAt: Date | null },
  ): AuthorizationToken {
    const { authorizationToken: auth, expiresAt } = answer;
    const host = transport.lastHost ?? 'AWS';
    const unusable = (what: string): TransientError =>
      new TransientError(
        'EmptyAnswer',
        `${host} answered GetAuthorizationToken in ${request.region} ${what}: ${remedies.empty}`,
      );
    if (!auth) throw unusable('without a token');
    if (!isUserAndPassword(auth)) throw unusable('with a token that is not base64 of user:password');
    if (!expiresAt || Number.isNaN(expiresAt.getTime())) throw unusable('without a time of expiry');
    const now = this.#options.clock.now() + (this.#serverTimeOffsetMs ?? 0);
    return { auth, issuedAt: transport.lastDate ?? new Date(now), expiresAt, sessionEndsAt };
  }

  #observe({ service, operation, code, date }: AwsAnswer): void {
    this.#options.metrics.awsRequest(service, operation, code);
    if (date) this.#serverTimeOffsetMs = date.getTime() - this.#options.clock.now();
  }

  #secretSink(): SecretSink {
    const values: string[] = [];
    const add = (...secrets: readonly (string | undefined)[]): void => {
      for (const secret of secrets) {
        if (!secret) continue;
        this.#options.redactor.add(secret);
        values.push(secret);
      }
    };
    return { values, add };
  }
}

// Above the deadline by this much, ms: not a late timer, but a process that stood still.
const FROZEN_MS = 2_000;

// Says beside the reason whether another try at once may do.
class AttemptError extends Error {
  readonly reason: OperatorError;
  readonly worthAnother: boolean;

  constructor(reason: OperatorError, worthAnother: boolean) {
    super(reason.message, { cause: reason });
    this.reason = reason;
    this.worthAnother = worthAnother;
  }
}

function attemptError(error: unknown, o: { wasFrozen: boolean; request: TokenRequest }): AttemptError {
  const reason = error instanceof OperatorError ? error : tooLate(o.request, error);
  // Keys of a Secret stay what they are until the Secret changes.
  const hasOtherSession = o.request.identity.source.kind === 'operator' || o.request.identity.chain.length > 0;
  const worthAnother =
    o.wasFrozen || isStaleSignature(reason.cause) || (hasOtherSession && isExpiredSession(reason.cause));
  return new AttemptError(reason, worthAnother);
}

function tooLate({ service, region, identity }: TokenRequest, cause?: unknown): TransientError {
  const role = identity.chain.at(-1)?.roleArn;
  const asked = `${service}:GetAuthorizationToken, or STS before it${role === undefined ? '' : ` for the role ${role}`}`;
  const message = `AWS in ${region} has not answered within 30 s (${asked}): ${remedies.unreachable}`;
  return new TransientError('Unreachable', message, { cause });
}

function isUserAndPassword(auth: string): boolean {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(auth)) return false;
  return /^[^:\s]+:\S/.test(Buffer.from(auth, 'base64').toString('latin1'));
}

/** Ends with the signal also where what is awaited does not listen to it, as credential providers. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal, reason: Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(reason);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
