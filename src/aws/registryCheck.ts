import { request, type Dispatcher } from 'undici';

/** Whether a registry takes a token. Messages hold no byte of its answer. */
export type CheckResult =
  | { readonly verdict: 'accepted' }
  | { readonly verdict: 'refused'; readonly message: string }
  | { readonly verdict: 'unreachable'; readonly message: string };

export interface RegistryCheck {
  readonly host: string; // with its port if it has one
  readonly auth: string; // base64 of user:password
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
}

/**
 * What `docker login` does: GET /v2/ with Basic, and where the registry asks for a bearer token, one from its realm.
 * The token goes to the registry's own host alone, by HTTPS, and no redirect is followed. Only a 400, 401 or 403 of a
 * registry is a refusal: a proxy's page, a fault or silence says nothing of the token. Never rejects.
 */
export async function checkRegistry(check: RegistryCheck): Promise<CheckResult> {
  const { host, auth } = check;
  const signal = AbortSignal.any([check.signal, AbortSignal.timeout(DEADLINE_MS)]);
  try {
    const answer = await get(`https://${host}/v2/`, `Basic ${auth}`, { ...check, signal });
    const challenge = answer.status === 401 ? bearerChallenge(answer.authenticate) : null;
    return challenge ? await checkWithBearer(challenge, { ...check, signal }) : verdictOf(answer, host);
  } catch (error) {
    return { verdict: 'unreachable', message: `${host} cannot be reached${reasonOf(error, signal)}` };
  }
}

const DEADLINE_MS = 15_000;
const LONGEST_BODY_BYTES = 64 * 1024; // a bearer token of ECR Public has some 3 KiB

interface Answer {
  readonly status: number;
  readonly authenticate: string;
  readonly body: unknown; // JSON, or undefined
  readonly isPage: boolean; // HTML: a proxy's or a captive portal's
  readonly isOfRegistry: boolean;
}

function verdictOf({ status, isPage, isOfRegistry }: Answer, host: string): CheckResult {
  if (status === 200 && (isOfRegistry || !isPage)) return { verdict: 'accepted' };
  if (isOfRegistry && [400, 401, 403].includes(status)) {
    const remedy = 'look at its host and region in spec.registries, and at what answers in its place';
    return { verdict: 'refused', message: `${host} refuses the token (HTTP ${status}): ${remedy}` };
  }
  return {
    verdict: 'unreachable',
    message: `${host} answered HTTP ${status}, which is no registry's word on the token`,
  };
}

interface Challenge {
  readonly realm: string;
  readonly service: string | null;
  readonly scope: string | null;
}

async function checkWithBearer(challenge: Challenge, check: RegistryCheck): Promise<CheckResult> {
  const { host, auth } = check;
  const realm = URL.parse(challenge.realm);
  if (realm?.protocol !== 'https:' || realm.host !== new URL(`https://${host}`).host) {
    return { verdict: 'unreachable', message: `${host} sends to another host for tokens, which is not given ours` };
  }
  if (challenge.service !== null) realm.searchParams.set('service', challenge.service);
  if (challenge.scope !== null) realm.searchParams.set('scope', challenge.scope);
  const answer = await get(realm.href, `Basic ${auth}`, check);
  const bearer = bearerOf(answer.body);
  if (answer.status !== 200 || bearer === null) {
    return answer.status === 200
      ? { verdict: 'unreachable', message: `${host} answered its own token request with none` }
      : verdictOf(answer, host);
  }
  return verdictOf(await get(`https://${host}/v2/`, `Bearer ${bearer}`, check), host);
}

async function get(url: string, authorization: string, { dispatcher, signal }: RegistryCheck): Promise<Answer> {
  const { statusCode, headers, body } = await request(url, { dispatcher, signal, headers: { authorization } });
  const one = (name: string): string => [headers[name] ?? ''].flat().join(', ');
  const parsed = parseJson(await textOf(body));
  return {
    status: statusCode,
    authenticate: one('www-authenticate'),
    body: parsed,
    isPage: /html/i.test(one('content-type')),
    isOfRegistry: one('docker-distribution-api-version') !== '' || hasErrors(parsed),
  };
}

/** The body's text; what is longer than any answer of a registry is not read. */
async function textOf(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > LONGEST_BODY_BYTES) return '';
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
function hasErrors(body: unknown): boolean {
  return Array.isArray((body as { errors?: unknown } | null | undefined)?.errors);
}

function bearerOf(body: unknown): string | null {
  const answer = body as { token?: unknown; access_token?: unknown } | null | undefined;
  const token = answer?.token ?? answer?.access_token;
  return typeof token === 'string' && /^[\x21-\x7e]+$/.test(token) ? token : null;
}

function bearerChallenge(authenticate: string): Challenge | null {
  const [, parameters] = /(?:^|,)\s*bearer\s+(.*)/i.exec(authenticate) ?? [];
  if (parameters === undefined) return null;
  const parameter = (name: string): string | null =>
    new RegExp(`(?:^|[\\s,])${name}="([^"]*)"`, 'i').exec(parameters)?.[1] ?? null;
  return { realm: parameter('realm') ?? '', service: parameter('service'), scope: parameter('scope') };
}

const CERTIFICATE =
  /^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE)/;

function reasonOf(error: unknown, signal: AbortSignal): string {
  if (signal.aborted) return ' in time';
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: { code?: unknown } };
  const known = [code, cause?.code].find((code) => typeof code === 'string' && /^[A-Z][A-Z_]+$/.test(code));
  if (typeof known !== 'string') return '';
  return CERTIFICATE.test(known)
    ? `: its certificate is not trusted (${known}); name its CA in NODE_EXTRA_CA_CERTS`
    : ` (${known})`;
}
