import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent } from 'undici';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkRegistry, type CheckResult } from '../../src/aws/registryCheck.ts';
import { createRegistryDispatcher } from '../../src/aws/registryTransport.ts';
import { selfSignedCertificate } from './selfSignedCertificate.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const AUTH = btoa('AWS:canary-token');
const REGISTRY = { 'docker-distribution-api-version': 'registry/2.0' };
const { key, cert } = selfSignedCertificate(['127.0.0.1']);
let server: Server;
let host: string;
let handler: Handler;
let asked: { url: string; authorization: string | undefined }[] = [];

beforeAll(async () => {
  server = createServer({ key, cert }, (request, response) => {
    asked.push({ url: request.url ?? '', authorization: request.headers.authorization });
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

async function check(
  answer: Handler,
  o: { host?: string; signal?: AbortSignal; dispatcher?: Agent } = {},
): Promise<CheckResult> {
  handler = answer;
  asked = [];
  const dispatcher = o.dispatcher ?? new Agent({ connect: { ca: cert } });
  const signal = o.signal ?? new AbortController().signal;
  const result = await checkRegistry({ host: o.host ?? host, auth: AUTH, dispatcher, signal });
  await dispatcher.destroy();
  return result;
}

const answer =
  (status: number, headers: Record<string, string> = {}, body = ''): Handler =>
  (_request, response) =>
    response.writeHead(status, headers).end(body);

const bearer = (realm: string): Handler =>
  answer(401, { ...REGISTRY, 'www-authenticate': `Bearer realm="${realm}",service="public.ecr.aws",scope="aws"` });

describe('with Basic', () => {
  const errors = JSON.stringify({ errors: [{ code: 'DENIED', message: 'canary-answer' }] });
  test.each<[string, Handler, CheckResult['verdict']]>([
    ['200 of a registry', answer(200, REGISTRY), 'accepted'],
    ['200 without a word', answer(200), 'accepted'],
    ['200 with a page', answer(200, { 'content-type': 'text/html' }, '<html>log in'), 'unreachable'],
    [
      '401 of a registry',
      answer(401, { ...REGISTRY, 'www-authenticate': 'Basic realm="x"' }, 'Not Authorized'),
      'refused',
    ],
    ['403 with errors', answer(403, {}, errors), 'refused'],
    ['400 of a registry', answer(400, REGISTRY), 'refused'],
    ["403 of a proxy's page", answer(403, { 'content-type': 'text/html' }, '<html>canary-answer'), 'unreachable'],
    ['404 of a registry', answer(404, REGISTRY, errors), 'unreachable'],
    ['500 of a registry', answer(500, REGISTRY, errors), 'unreachable'],
    ['a redirect', answer(302, { ...REGISTRY, location: 'https://127.0.0.1:9/v2/' }), 'unreachable'],
    [
      'an endless page',
      (_request, response) => void response.writeHead(403, REGISTRY).end('x'.repeat(1_000_000)),
      'refused',
    ],
    ['a closed connection', (request) => void request.socket.destroy(), 'unreachable'],
  ])('%s', async (_name, handle, verdict) => {
    const result = await check(handle);
    expect(result.verdict).toBe(verdict);
    expect(asked[0]).toEqual({ url: '/v2/', authorization: `Basic ${AUTH}` });
    expect(asked).toHaveLength(1);
    expect(JSON.stringify(result)).not.toContain('canary');
    expect('message' in result ? result.message : host).toContain(host);
  });
});

describe('with a bearer challenge', () => {
  const flow =
    (tokenAnswer: Handler, last: Handler): Handler =>
    (request, response) => {
      if (request.url?.startsWith('/token')) tokenAnswer(request, response);
      else if (request.headers.authorization?.startsWith('Bearer')) last(request, response);
      else bearer(`https://${host}/token/`)(request, response);
    };
  const token = answer(200, {}, JSON.stringify({ token: 'canary-bearer' }));

  test('the token goes to the realm, and what it gives to the registry', async () => {
    expect(await check(flow(token, answer(200, REGISTRY)))).toEqual({ verdict: 'accepted' });
    expect(asked).toEqual([
      { url: '/v2/', authorization: `Basic ${AUTH}` },
      { url: '/token/?service=public.ecr.aws&scope=aws', authorization: `Basic ${AUTH}` },
      { url: '/v2/', authorization: 'Bearer canary-bearer' },
    ]);
  });

  test('a refusal of either is one', async () => {
    const refusal = answer(400, {}, JSON.stringify({ errors: [] }));
    expect(await check(flow(refusal, answer(200)))).toMatchObject({ verdict: 'refused' });
    expect(await check(flow(token, refusal))).toMatchObject({ verdict: 'refused' });
  });

  test('an answer without a token says nothing', async () => {
    expect(await check(flow(answer(200, {}, '{}'), answer(200)))).toMatchObject({ verdict: 'unreachable' });
  });

  test.each([
    'https://other.example/token',
    'http://HOST/token',
    'https://HOST@other.example/',
    'https://127.0.0.1:9/token',
    '',
    'no url',
  ])('a realm elsewhere (%s) is never given the token', async (realm) => {
    const result = await check(bearer(realm.replace('HOST', host)));
    expect(result.verdict).toBe('unreachable');
    expect(asked).toHaveLength(1);
  });
});

describe('a registry that is not there', () => {
  test('whose name does not exist', async () => {
    const result = await check(answer(200), { host: 'registry.invalid' });
    expect(result).toMatchObject({ verdict: 'unreachable' });
    expect(JSON.stringify(result)).toMatch(/registry\.invalid cannot be reached \((ENOTFOUND|EAI_AGAIN)\)/);
  });

  test('whose certificate is not trusted says what to do', async () => {
    const dispatcher = createRegistryDispatcher({}) as Agent;
    const result = await check(answer(200), { dispatcher });
    expect(result.verdict).toBe('unreachable');
    expect(JSON.stringify(result)).toMatch(/certificate is not trusted .*NODE_EXTRA_CA_CERTS/);
  });

  test('that is silent, when the check is given up', async () => {
    const giveUp = new AbortController();
    const result = await check(() => giveUp.abort(), { signal: giveUp.signal });
    expect(result).toEqual({ verdict: 'unreachable', message: `${host} cannot be reached in time` });
  });
});
