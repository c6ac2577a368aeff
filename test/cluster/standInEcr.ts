import { randomBytes } from 'node:crypto';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

export type TokenState = 'live' | 'expired' | 'unknown';

export interface IssuedToken {
  auth: string; // base64 of `AWS:password`, as it goes into a Docker config
  issuedAt: number; // ms
  expiresAt: number; // ms
}

export interface EcrCall {
  time: number; // ms
  status: number; // 0 where something else came than an answer
  accessKeyId: string;
}

export interface StsCall extends EcrCall {
  roleArn: string;
}

/** What AWS says instead of what it was asked for. */
export interface AwsFault {
  status: number;
  type: string;
  message?: string;
}

interface Session {
  token: string;
  secretAccessKey: string;
}

/**
 * Answers GetAuthorizationToken over HTTP with a new token at each call, and knows which of its tokens are alive. Beside
 * it, STS: the keys of a role that was assumed are good for a token, too.
 */
export class StandInEcr {
  readonly url: string;
  readonly calls: EcrCall[] = [];
  readonly account = '123456789012';
  /** Of tokens that are asked for from now on; ms. */
  lifeMs: number;
  /** While set, each call is answered with this error. */
  fault: AwsFault | null = null;
  /** In place of any answer, such as none at all. */
  instead: ((response: ServerResponse) => void) | null = null;
  readonly stsCalls: StsCall[] = [];
  /** The same two of STS. */
  stsFault: AwsFault | null = null;
  stsInstead: ((response: ServerResponse) => void) | null = null;
  /** While set, answers wait for it. */
  hold: Promise<unknown> | null = null;
  /** Signatures made longer ago (ms), or so far in the future, are refused, as AWS refuses them after five minutes. */
  oldestSignatureMs = Infinity;
  readonly #tokens = new Map<string, IssuedToken>();
  readonly #sessions = new Map<string, Session>(); // by their access key
  readonly #server: Server;

  private constructor(server: Server, lifeMs: number) {
    this.#server = server;
    this.lifeMs = lifeMs;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(o: { lifeMs?: number } = {}): Promise<StandInEcr> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const ecr = new StandInEcr(server, o.lifeMs ?? 12 * 3_600_000);
    server.on('request', (request, response) => void ecr.#take(request, response).catch(() => response.destroy()));
    return ecr;
  }

  /** What points the AWS SDK here, with keys that the stand-in does not look at. */
  get env(): Record<string, string> {
    return { AWS_ENDPOINT_URL: this.url, AWS_ACCESS_KEY_ID: 'AKIATEST', AWS_SECRET_ACCESS_KEY: 'stand-in-secret-key' };
  }

  /** A token without a call. */
  issue(lifeMs: number = this.lifeMs): IssuedToken {
    const issuedAt = Date.now();
    const auth = Buffer.from(`AWS:${randomBytes(48).toString('base64url')}`).toString('base64');
    const token = { auth, issuedAt, expiresAt: issuedAt + lifeMs };
    this.#tokens.set(auth, token);
    return token;
  }

  /** Resolves ten seconds after the last call: sooner the operator makes no other. */
  async rested(): Promise<void> {
    const last = Math.max(this.calls.at(-1)?.time ?? 0, this.stsCalls.at(-1)?.time ?? 0);
    await sleep(Math.max(0, last + 10_000 - Date.now()));
  }

  /** Every token that was given out. */
  get issued(): IssuedToken[] {
    return [...this.#tokens.values()];
  }

  /** What nobody but the operator may know of the roles that were assumed. */
  get sessionSecrets(): string[] {
    return [...this.#sessions.values()].flatMap(({ token, secretAccessKey }) => [token, secretAccessKey]);
  }

  /** Ends the life of every token that was given out until now. */
  expireAll(): void {
    for (const token of this.#tokens.values()) token.expiresAt = Math.min(token.expiresAt, Date.now());
  }

  stateOf(auth: string): TokenState {
    const token = this.#tokens.get(auth);
    if (token === undefined) return 'unknown';
    return Date.now() < token.expiresAt ? 'live' : 'expired';
  }

  /** When a token was given out, ms; 0 for one that was not. */
  issuedAtOf(auth: string): number {
    return this.#tokens.get(auth)?.issuedAt ?? 0;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parameters = new URLSearchParams(await text(request));
    if (parameters.get('Action') === 'AssumeRole') this.#assumeRole(parameters, request.headers, response);
    else await this.#answer(request.headers, response);
  }

  async #answer(headers: IncomingHttpHeaders, response: ServerResponse): Promise<void> {
    const isToken = headers['x-amz-target'] === 'AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken';
    const fault = isToken
      ? (this.#tooOld(headers) ?? this.#unknownSession(headers) ?? this.fault)
      : { status: 400, type: 'UnknownOperationException' };
    const status = fault?.status ?? 200;
    const accessKeyId = accessKeyIn(headers);
    if (isToken) this.calls.push({ time: Date.now(), status: this.instead ? 0 : status, accessKeyId });
    if (this.hold) await this.hold;
    if (this.instead) return this.instead(response);
    response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' });
    if (fault) response.end(JSON.stringify({ __type: fault.type, message: fault.message ?? fault.type }));
    else response.end(JSON.stringify({ authorizationData: [this.#authorizationData()] }));
  }

  #assumeRole(parameters: URLSearchParams, headers: IncomingHttpHeaders, response: ServerResponse): void {
    const status = this.stsFault?.status ?? 200;
    const roleArn = parameters.get('RoleArn') ?? '';
    this.stsCalls.push({
      ...{ time: Date.now(), status: this.stsInstead ? 0 : status, roleArn },
      accessKeyId: accessKeyIn(headers),
    });
    if (this.stsInstead) return this.stsInstead(response);
    response.writeHead(status, { 'content-type': 'text/xml' });
    if (this.stsFault) {
      const { type, message = type } = this.stsFault;
      const error = `<Error><Type>Sender</Type><Code>${type}</Code><Message>${message}</Message></Error>`;
      response.end(`<ErrorResponse xmlns="${stsNamespace}">${error}</ErrorResponse>`);
    } else {
      const body = `${this.#credentials()}<AssumedRoleUser><Arn>${roleArn}</Arn></AssumedRoleUser>`;
      const result = `<AssumeRoleResult>${body}</AssumeRoleResult>`;
      response.end(`<AssumeRoleResponse xmlns="${stsNamespace}">${result}</AssumeRoleResponse>`);
    }
  }

  #credentials(): string {
    const accessKeyId = `ASIA${randomBytes(8).toString('hex').toUpperCase()}`;
    const session = {
      token: randomBytes(48).toString('base64url'),
      secretAccessKey: randomBytes(30).toString('base64'),
    };
    this.#sessions.set(accessKeyId, session);
    const expiration = new Date(Date.now() + 3_600_000).toISOString();
    return (
      `<Credentials><AccessKeyId>${accessKeyId}</AccessKeyId>` +
      `<SecretAccessKey>${session.secretAccessKey}</SecretAccessKey>` +
      `<SessionToken>${session.token}</SessionToken><Expiration>${expiration}</Expiration></Credentials>`
    );
  }

  /** Temporary keys come with the token of their session. */
  #unknownSession(headers: IncomingHttpHeaders): AwsFault | null {
    const accessKeyId = accessKeyIn(headers);
    if (!accessKeyId.startsWith('ASIA')) return null;
    const isKnown = this.#sessions.get(accessKeyId)?.token === headers['x-amz-security-token'];
    return isKnown ? null : { status: 403, type: 'UnrecognizedClientException' };
  }

  #tooOld(headers: IncomingHttpHeaders): AwsFault | null {
    const [, ...parts] = /^(....)(..)(..)T(..)(..)(..)Z$/.exec(String(headers['x-amz-date'])) ?? [];
    const [year = '', month, day, hour, minute, second] = parts;
    const ageMs = Date.now() - Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
    if (!(Math.abs(ageMs) > this.oldestSignatureMs)) return null;
    return { status: 400, type: 'InvalidSignatureException', message: 'Signature expired: it is no longer current' };
  }

  #authorizationData(): object {
    const { auth, expiresAt } = this.issue();
    const proxyEndpoint = `https://${this.account}.dkr.ecr.us-east-1.amazonaws.com`;
    return { authorizationToken: auth, expiresAt: expiresAt / 1000, proxyEndpoint };
  }
}

const stsNamespace = 'https://sts.amazonaws.com/doc/2011-06-15/';

function accessKeyIn({ authorization = '' }: IncomingHttpHeaders): string {
  return /Credential=([^/]+)/.exec(authorization)?.[1] ?? '';
}
