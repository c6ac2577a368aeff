import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request as AWS would read it. */
export interface AwsRequest {
  service: string; // of the signature's scope; '' where it is not signed
  region: string;
  operation: string;
  accessKeyId: string; // '' where it is not signed
  sessionToken: string | undefined;
  parameters: URLSearchParams; // of STS
  host: string;
}

export type Answer = (request: AwsRequest, response: ServerResponse) => void;

/** A small AWS on loopback: one URL for ECR, ECR Public and STS, each answered by a function that a test may replace. */
export class AwsServer implements AsyncDisposable {
  readonly requests: AwsRequest[] = [];
  readonly #server: Server;
  answers: Record<string, Answer> = {
    GetAuthorizationToken: (request, response) =>
      tokenAnswer({ public: request.service === 'ecr-public' })(request, response),
    AssumeRole: sessionAnswer(),
    AssumeRoleWithWebIdentity: sessionAnswer({ operation: 'AssumeRoleWithWebIdentity' }),
  };

  constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<AwsServer> {
    const server = createServer();
    const aws = new AwsServer(server);
    server.on('request', (request, response) => void aws.#answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return aws;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get env(): NodeJS.ProcessEnv {
    return {
      AWS_ENDPOINT_URL: this.url,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_SHARED_CREDENTIALS_FILE: '/nonexistent',
      AWS_CONFIG_FILE: '/nonexistent',
    };
  }

  of(operation: string): AwsRequest[] {
    return this.requests.filter((request) => request.operation === operation);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const chunk of incoming) body += String(chunk);
    const target = String(incoming.headers['x-amz-target'] ?? '');
    const parameters = target === '' ? new URLSearchParams(body) : new URLSearchParams();
    const [accessKeyId = '', , region = '', service = ''] =
      /Credential=([^,]*)/.exec(incoming.headers.authorization ?? '')?.[1]?.split('/') ?? [];
    const request = {
      service,
      region,
      operation: target.split('.').at(-1) || (parameters.get('Action') ?? ''),
      accessKeyId,
      sessionToken: incoming.headers['x-amz-security-token'] as string | undefined,
      parameters,
      host: incoming.headers.host ?? '',
    };
    this.requests.push(request);
    const answer = this.answers[request.operation] ?? htmlAnswer(404);
    answer(request, response);
  }
}

export const HOUR = 3_600_000;

export function tokenAnswer(
  o: { token?: string; lifeMs?: number; date?: Date; public?: boolean; raw?: unknown } = {},
): Answer {
  let count = 0;
  return (_request, response) => {
    const now = o.date ?? new Date();
    const token = o.token ?? Buffer.from(`AWS:password-${++count}-${'x'.repeat(40)}`).toString('base64');
    const one = {
      authorizationToken: token,
      expiresAt: (now.getTime() + (o.lifeMs ?? 12 * HOUR)) / 1000,
      // The caller's account, not the registry's: of no use.
      ...(!o.public && { proxyEndpoint: 'https://111111111111.dkr.ecr.eu-west-1.amazonaws.com' }),
    };
    const answer = o.raw ?? { authorizationData: o.public ? one : [one] };
    response.writeHead(200, { 'content-type': 'application/x-amz-json-1.1', date: now.toUTCString() });
    response.end(typeof answer === 'string' ? answer : JSON.stringify(answer));
  };
}

export function jsonError(
  name: string,
  message: string,
  o: { status?: number; headers?: Record<string, string> } = {},
): Answer {
  return (_request, response) => {
    response.writeHead(o.status ?? 400, { 'content-type': 'application/x-amz-json-1.1', ...o.headers });
    response.end(JSON.stringify({ __type: name, message }));
  };
}

export function htmlAnswer(status: number, page = '<html><body>Please log in</body></html>'): Answer {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'text/html' });
    response.end(page);
  };
}

let sessions = 0;

export function sessionAnswer(
  o: { operation?: string; lifeMs?: number; accessKeyId?: string; raw?: string } = {},
): Answer {
  return (request, response) => {
    const operation = o.operation ?? 'AssumeRole';
    const number = ++sessions;
    const expiration = new Date(Date.now() + (o.lifeMs ?? HOUR)).toISOString();
    response.writeHead(200, { 'content-type': 'text/xml' });
    response.end(
      o.raw ??
        `<${operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><${operation}Result>
        <AssumedRoleUser><Arn>${request.parameters.get('RoleArn')}</Arn><AssumedRoleId>ID:x</AssumedRoleId></AssumedRoleUser>
        <Credentials><AccessKeyId>${o.accessKeyId ?? `ASIASESSION${number}`}</AccessKeyId>
        <SecretAccessKey>session-secret-${number}</SecretAccessKey>
        <SessionToken>session-token-${number}</SessionToken><Expiration>${expiration}</Expiration></Credentials>
        </${operation}Result></${operation}Response>`,
    );
  };
}

export function stsError(code: string, message: string, status = 403): Answer {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'text/xml' });
    response.end(
      `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>` +
        `<Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`,
    );
  };
}
