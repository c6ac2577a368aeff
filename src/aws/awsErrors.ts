import { ConfigurationError, OperatorError, ThrottledError, TransientError } from '../errors.ts';
import { codeOfName } from './awsErrorNames.ts';
import { awsErrorText } from './awsErrorText.ts';
import { describeSource, type CredentialSource } from './identity.ts';
import { remedies } from './remedies.ts';

/** What was tried, for the message. */
export interface AwsCall {
  readonly action: string; // as in a policy, e.g. `ecr:GetAuthorizationToken`
  readonly region: string;
  readonly host: string | null; // who was asked
  readonly source: CredentialSource;
  readonly roleArn: string | null; // the role that asked, or that is to be assumed
  readonly secrets: readonly string[]; // never in a message, even where AWS' text holds one
}

/**
 * Says what an error of the SDK means and what to do. The words are ours; of AWS' own text only a refusal's is kept,
 * as its end tells which policy refuses, and a validation's, with every known secret taken out.
 */
export function explainAwsError(error: unknown, call: AwsCall): OperatorError {
  if (error instanceof OperatorError) return error;
  const seen = read(error, call.secrets);
  for (const explain of [byName, byNetwork, byStatus]) {
    const explained = explain(seen, call);
    if (explained) return explained;
  }
  const message = `${call.action} in ${call.region} failed with ${seen.name}: the answer of ${hostOf(call)} is not AWS's: ${remedies.notAws}`;
  return new TransientError('NotAnAwsAnswer', message, { cause: error });
}

/** Whether the signature was too old when it arrived: the process had been stopped. Another try is signed anew. */
export function isStaleSignature(error: unknown): boolean {
  const { name, message } = read(error, []);
  if (['RequestExpired', 'RequestTimeTooSkewed', 'RequestInTheFuture'].includes(name)) return true;
  return (
    ['InvalidSignatureException', 'SignatureDoesNotMatch', 'AuthFailure'].includes(name) &&
    /expired|not yet current/i.test(message)
  );
}

/** Whether the session that asked has ended: another one may do. */
export function isExpiredSession(error: unknown): boolean {
  return ['ExpiredToken', 'ExpiredTokenException'].includes(read(error, []).name);
}

interface Seen {
  readonly error: unknown;
  readonly name: string;
  readonly message: string;
  readonly code: string; // of Node
  readonly status: number | null; // of HTTP
  readonly tunnelStatus: number | null; // of a proxy's answer to CONNECT
  readonly isService: boolean; // AWS said so itself
  readonly retryAfter: string | undefined;
}

type SdkError = Partial<{
  name: unknown;
  message: unknown;
  code: unknown;
  cause: unknown;
  statusCode: unknown;
  $fault: unknown;
  $metadata: { httpStatusCode?: number };
  $response: { statusCode?: number; headers?: Readonly<Record<string, string>> };
}>;

function read(error: unknown, secrets: readonly string[]): Seen {
  const sdk = (error ?? {}) as SdkError;
  return {
    error,
    // A name is an answer's text too: what does not look like one is not repeated.
    name: isName(text(sdk.name)) && !secrets.includes(text(sdk.name)) ? text(sdk.name) : UNKNOWN_NAME,
    message: text(sdk.message),
    code: text(sdk.code) || text((sdk.cause as SdkError | undefined)?.code),
    status: statusOf(sdk),
    tunnelStatus: typeof sdk.statusCode === 'number' ? sdk.statusCode : null,
    isService: sdk.$fault !== undefined,
    retryAfter: sdk.$response?.headers?.['retry-after'],
  };
}

function statusOf({ $metadata: metadata, $response: response }: SdkError): number | null {
  return metadata?.httpStatusCode ?? response?.statusCode ?? null;
}

function isName(name: string): boolean {
  return /^[A-Z][A-Za-z]{2,63}$/.test(name) && /[a-z]/.test(name);
}

const UNKNOWN_NAME = 'an unknown error';

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function byName(seen: Seen, call: AwsCall): OperatorError | null {
  const code = codeOfName(seen.name);
  if (code === undefined) return seen.status === 429 ? throttled(seen, call) : null;
  if (code === 'Throttled') return throttled(seen, call);
  const message = meanings[code]?.(call, awsErrorText(seen.message, call.secrets) || seen.name) ?? '';
  const options = { cause: seen.error };
  if (code === 'IdentityProviderUnreachable') return new TransientError(code, message, options);
  return new ConfigurationError(code, message, options);
}

const meanings: Readonly<Record<string, (call: AwsCall, text: string) => string>> = {
  AccessDenied: (call, text) => `AWS refuses ${call.action} in ${call.region} to ${who(call)}: ${text}. ${grant(call)}`,
  ExpiredCredentials: (call) =>
    call.source.kind === 'accessKey'
      ? `the keys have expired: put new ones into the Secret ${call.source.secretName}`
      : `the session of ${who(call)} has expired, and so had the next one: look at where it comes from`,
  InvalidCredentials: (call) =>
    `AWS does not accept ${who(call)} for ${call.action} in ${call.region}: a key is wrong, deleted or inactive, ` +
    'the region is not enabled in the account, or the clock is wrong',
  InvalidIdentityToken: (call) =>
    `AWS does not accept the web identity token of ${who(call)}: look at the role's trust policy, the token's ` +
    "audience and issuer, and the IAM identity provider's keys",
  RegionDisabled: (call) => `the region ${call.region} is not enabled for ${who(call)}: enable it in the account`,
  InvalidRequest: (call, text) => `AWS finds ${call.action} of ${who(call)} invalid: ${text}`,
  IdentityProviderUnreachable: (call) =>
    `AWS cannot reach the issuer of the web identity token of ${who(call)}: its discovery document must be public`,
  NoCredentials: (call) =>
    `no AWS credentials found for ${who(call)}: give it some (environment, web identity, container or instance ` +
    'role), or name a Secret with keys in credentials.accessKeySecretRef',
  InvalidEndpoint: (call) =>
    `no endpoint for ${call.action} in ${call.region}: AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT cannot ` +
    'be combined with AWS_ENDPOINT_URL',
};

function who({ action, source, roleArn }: AwsCall): string {
  // Of a role that is still to be assumed the caller is refused, not the role.
  if (action === 'sts:AssumeRole') return `${describeSource(source)} (for the role ${roleArn})`;
  return roleArn === null ? describeSource(source) : `the role ${roleArn} (from ${describeSource(source)})`;
}

function grant({ action }: AwsCall): string {
  if (action === 'sts:AssumeRole') {
    return "The role's trust policy must name the caller (and the externalId), the caller's policy allow sts:AssumeRole";
  }
  const more = action.startsWith('ecr-public:') ? ' and sts:GetServiceBearerToken' : '';
  return `Allow ${action}${more} on the resource "*"`;
}

const DEFAULT_RETRY_AFTER_MS = 10_000;

function throttled(seen: Seen, call: AwsCall): ThrottledError {
  const seconds = Number(seen.retryAfter ?? Number.NaN);
  return new ThrottledError(
    'Throttled',
    `AWS throttles ${call.action} in ${call.region}: too many calls of the account. It is asked again later; look for what else asks so often`,
    {
      retryAfterMs: seconds >= 0 ? seconds * 1000 : DEFAULT_RETRY_AFTER_MS,
      cause: seen.error,
    },
  );
}

const CERTIFICATE =
  /^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE)/;

const HANDSHAKE = /^(EPROTO|ERR_SSL_)/;

type Explain = (host: string, call: AwsCall, seen: Seen) => [code: string, message: string];

const networkCodes: Readonly<Record<string, Explain>> = {
  ENOTFOUND: (host, call) => [
    'HostNotFound',
    `the name ${host} does not exist: the region ${call.region} may be mistyped, or DNS does not know the endpoint`,
  ],
  // Some resolvers say so of a name that does not exist.
  EAI_AGAIN: (host, { region }) => [
    'DnsFailure',
    `DNS does not answer for ${host}: look at the cluster's DNS and network policies; or the region ${region} may be mistyped`,
  ],
  ERR_PROXY_TUNNEL: (host, { region }, { tunnelStatus }) => {
    const refusal = `the proxy opens no tunnel to ${host}${tunnelStatus === null ? '' : ` (HTTP ${tunnelStatus})`}`;
    const remedy =
      tunnelStatus === 407
        ? 'put its user and password into HTTPS_PROXY, or the host into NO_PROXY'
        : `it must allow that host, or the region ${region} may be mistyped; look at HTTPS_PROXY and NO_PROXY`;
    return ['ProxyRefused', `${refusal}: ${remedy}`];
  },
  ENOENT: (_host, call) => ['NoCredentials', `a file of ${describeSource(call.source)} cannot be read: does it exist?`],
};

function byNetwork(seen: Seen, call: AwsCall): OperatorError | null {
  const options = { cause: seen.error };
  const host = hostOf(call);
  if (CERTIFICATE.test(seen.code)) {
    const message = `the certificate of ${host} is not trusted (${seen.code}): where a proxy inspects TLS, mount its CA and name it in NODE_EXTRA_CA_CERTS`;
    return new ConfigurationError('CertificateUntrusted', message, options);
  }
  if (HANDSHAKE.test(seen.code)) {
    const message = `TLS with ${host} fails (${seen.code}): what answers there speaks none, or none of ours: look at HTTPS_PROXY, AWS_ENDPOINT_URL and whatever inspects TLS`;
    return new ConfigurationError('TlsFailed', message, options);
  }
  const known = networkCodes[seen.code]?.(host, call, seen);
  if (known) return new TransientError(...known, options);
  if (seen.name === 'TimeoutError' || seen.name === 'AbortError') {
    const detail = /^E[A-Z]+$/.test(seen.code) ? ` (${seen.code})` : '';
    return new TransientError(
      'Unreachable',
      `${host} does not answer in time or closes the connection${detail}: ${remedies.unreachable}`,
      options,
    );
  }
  if (seen.status !== null || !/^[A-Z][A-Z_]+$/.test(seen.code)) return null;
  return new TransientError(
    'Unreachable',
    `${host} cannot be reached (${seen.code}): ${remedies.unreachable}`,
    options,
  );
}

function byStatus(seen: Seen, call: AwsCall): OperatorError | null {
  const { status } = seen;
  if (status === null) return null;
  const options = { cause: seen.error };
  const host = hostOf(call);
  const isAnswer = seen.isService && ![UNKNOWN_NAME, 'Unknown', 'UnknownError', 'Error'].includes(seen.name);
  if (status >= 500 && isAnswer)
    return new TransientError(
      'ServerError',
      `AWS has a fault at ${host} (HTTP ${status}): it is asked again; look at AWS's status page`,
      options,
    );
  if (isAnswer) {
    const message = `AWS refuses ${call.action} in ${call.region} to ${who(call)}: ${seen.name} (HTTP ${status})`;
    return new ConfigurationError('AwsRefused', message, options);
  }
  const page = `${host} answered HTTP ${status} with something that is not AWS's`;
  if (status === 407)
    return new TransientError('ProxyRefused', `${page}: the proxy wants a user and password in HTTPS_PROXY`, options);
  return new TransientError('NotAnAwsAnswer', `${page}: ${remedies.notAws}`, options);
}

function hostOf({ host, action }: AwsCall): string {
  return host ?? `the endpoint of ${action.split(':')[0] ?? 'AWS'}`;
}
