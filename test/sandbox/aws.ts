import type { IncomingMessage, ServerResponse } from 'node:http';
import { AwsModes, type AwsMode, type AwsScope } from './awsModes.ts';
import { awsOperations } from './awsOperations.ts';
import { AwsSessions, expiredToken, type Principal } from './awsSessions.ts';
import {
  readAwsRequest,
  sendFailure,
  sendHtml,
  sendJson,
  type AwsFailure,
  type AwsRequest,
  type AwsService,
} from './awsWire.ts';
import { IssuedTokens } from './issuedTokens.ts';
import { LoopbackServer } from './loopbackServer.ts';

export interface AwsCall {
  readonly at: number; // ms, on this machine's clock
  readonly service: AwsService;
  readonly operation: string;
  readonly region: string; // of the signature's scope; '' where it is not signed
  readonly accessKeyId: string;
  readonly hasSessionToken: boolean;
  readonly parameters: Readonly<Record<string, string>>; // of STS: RoleArn, ExternalId …
  status: number | null; // HTTP; null while, or where, there is no answer
}

/** What may be changed while it runs. Times in ms. */
export interface AwsSettings {
  account: string; // of who asks, unless its keys say otherwise
  /** In `proxyEndpoint`; null: the account of who asks, as AWS does it. */
  proxyAccount: string | null;
  tokenLifeMs: number;
  sessionLifeMs: number | null; // null: as long as asked for
  tokensDieWithSession: boolean;
  clockOffsetMs: number; // AWS's clock minus ours
  signatureAgeMs: number; // older, or as much in the future: refused
}

const DEFAULTS: AwsSettings = {
  account: '123456789012',
  proxyAccount: null,
  tokenLifeMs: 12 * 3_600_000,
  sessionLifeMs: null,
  tokensDieWithSession: false,
  clockOffsetMs: 0,
  signatureAgeMs: 5 * 60_000,
};

const SERVICES: readonly AwsService[] = ['ecr', 'ecr-public', 'sts'];

/**
 * A small AWS on loopback: ECR, ECR Public and STS, each an HTTP server of its own. It gives out tokens that it knows
 * again, writes down who asked for what, and fails in whatever way it is told to.
 */
export class SandboxAws {
  readonly calls: AwsCall[] = [];
  readonly settings: AwsSettings;
  readonly tokens: IssuedTokens;
  readonly sessions: AwsSessions;
  readonly #localNow: () => number;
  readonly #modes = new AwsModes();
  readonly #servers = new Map<AwsService, LoopbackServer>();

  private constructor(settings: Partial<AwsSettings>, now: () => number) {
    this.settings = { ...DEFAULTS, ...settings };
    this.#localNow = now;
    const awsNow = (): number => this.now();
    this.tokens = new IssuedTokens(awsNow);
    this.sessions = new AwsSessions({ now: awsNow, account: () => this.settings.account });
  }

  /** `now`: the clock to which `clockOffsetMs` is added. */
  static async start(settings: Partial<AwsSettings> = {}, now: () => number = Date.now): Promise<SandboxAws> {
    const aws = new SandboxAws(settings, now);
    for (const service of SERVICES) {
      const listener = (request: IncomingMessage, response: ServerResponse): void =>
        void aws.#serve(service, request, response);
      aws.#servers.set(service, await LoopbackServer.start(listener));
    }
    return aws;
  }

  /** What points the AWS SDK here, with keys of a user. */
  get env(): Record<string, string> {
    return {
      AWS_ENDPOINT_URL_ECR: this.url('ecr'),
      AWS_ENDPOINT_URL_ECR_PUBLIC: this.url('ecr-public'),
      AWS_ENDPOINT_URL_STS: this.url('sts'),
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_ACCESS_KEY_ID: 'AKIASANDBOX',
      AWS_SECRET_ACCESS_KEY: 'sandbox-secret-access-key',
    };
  }

  url(service: AwsService): string {
    return this.#servers.get(service)?.url ?? '';
  }

  /** AWS's clock, ms. */
  now(): number {
    return this.#localNow() + this.settings.clockOffsetMs;
  }

  /** Resolves when it is in force: a port that goes down is closed, one that comes up again listens. */
  async setMode(mode: AwsMode, scope: AwsScope = {}): Promise<void> {
    this.#modes.set(mode, scope);
    await this.#openOrClose();
  }

  /** All is well again. */
  async reset(): Promise<void> {
    this.#modes.reset();
    await this.#openOrClose();
  }

  callsOf(operation: string, scope: Omit<AwsScope, 'operation'> = {}): AwsCall[] {
    const wanted = Object.entries({ ...scope, operation });
    return this.calls.filter((call) => wanted.every(([name, value]) => call[name as keyof AwsScope] === value));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#servers.values()].map((server) => server.down()));
  }

  async #openOrClose(): Promise<void> {
    for (const [service, server] of this.#servers) {
      await (this.#modes.isDown(service) ? server.down() : server.up());
    }
  }

  async #serve(service: AwsService, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    response.sendDate = false;
    response.setHeader('date', new Date(this.now()).toUTCString());
    try {
      const request = await readAwsRequest(service, incoming);
      const call = this.#record(request);
      response.once('finish', () => (call.status = response.statusCode));
      this.#answer(request, response);
    } catch {
      response.destroy(); // the client has gone in the middle
    }
  }

  #record({ service, operation, region, accessKeyId, sessionToken, parameters }: AwsRequest): AwsCall {
    const { WebIdentityToken: _, ...told } = Object.fromEntries(parameters);
    const call: AwsCall = {
      ...{ at: Date.now(), service, operation, region, accessKeyId },
      ...{ hasSessionToken: sessionToken !== undefined, parameters: told, status: null },
    };
    this.calls.push(call);
    return call;
  }

  #answer(request: AwsRequest, response: ServerResponse): void {
    const { service } = request;
    const mode = this.#modes.of(request);
    if (mode === 'hang') return;
    if (mode === 'down') return void response.destroy();
    if (mode === 'stall')
      return void response.writeHead(200, { 'content-type': 'application/x-amz-json-1.1' }).write(' ');
    if (typeof mode === 'object' && 'html' in mode) return sendHtml(response, mode.html);
    if (mode === 'empty') return service === 'sts' ? void response.end() : sendJson(response, {});
    const failure = failureOf(mode, request) ?? this.#staleSignature(request);
    if (failure) return sendFailure(service, response, failure);
    const caller = request.operation === 'AssumeRoleWithWebIdentity' ? null : this.sessions.principalOf(request);
    if (caller && 'error' in caller) return sendFailure(service, response, caller);
    this.#carryOut(request, caller, response);
  }

  #carryOut(request: AwsRequest, caller: Principal | null, response: ServerResponse): void {
    const operation = awsOperations[request.service].get(request.operation);
    if (operation) return operation({ request, caller, aws: this }, response);
    const message = `unknown operation ${request.operation}`;
    sendFailure(request.service, response, { error: 'UnknownOperationException', status: 400, message });
  }

  #staleSignature({ signedAt, service }: AwsRequest): AwsFailure | null {
    if (signedAt === null || Math.abs(this.now() - signedAt) <= this.settings.signatureAgeMs) return null;
    const isOld = signedAt < this.now();
    const message = isOld ? 'Signature expired: it is now too old' : 'Signature not yet current';
    return service === 'sts'
      ? { error: 'SignatureDoesNotMatch', status: 403, message }
      : { error: 'InvalidSignatureException', status: 403, message };
  }
}

function failureOf(mode: AwsMode, { service, operation, accessKeyId }: AwsRequest): AwsFailure | null {
  if (typeof mode === 'object' && 'error' in mode) {
    return { status: 400, message: `${mode.error}, as the sandbox was told`, ...mode };
  }
  const isSts = service === 'sts';
  if (mode === 'expired') return expiredToken(service);
  if (mode === 'throttled') {
    return { error: isSts ? 'Throttling' : 'ThrottlingException', status: 400, message: 'Rate exceeded' };
  }
  if (mode !== 'denied') return null;
  const message = `User: arn:aws:iam::123456789012:user/${accessKeyId.toLowerCase()} is not authorized to perform: ${service}:${operation} on resource: * because no identity-based policy allows the ${service}:${operation} action`;
  return isSts
    ? { error: 'AccessDenied', status: 403, message }
    : { error: 'AccessDeniedException', status: 400, message };
}
