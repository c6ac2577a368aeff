import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline, Readable, type Writable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { Agent } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkRegistry, type CheckResult } from '../../src/aws/registryCheck.ts';
import { memoryGrowth } from '../memoryGrowth.ts';
import { selfSignedCertificate } from './selfSignedCertificate.ts';

// A host in a resource may be anybody's. Whatever it answers, the token is shown to nobody else, the check ends with one of
// three verdicts, says nothing of what was answered, and costs neither time nor memory.

const AUTH = btoa('AWS:canary-token-of-the-registry');
const REGISTRY = { 'docker-distribution-api-version': 'registry/2.0' };
const MOST_BYTES = 20 * 1024 * 1024;
const { key, cert } = selfSignedCertificate(['127.0.0.1', 'localhost', 'other.localhost']);

type Handler = (request: IncomingMessage, response: ServerResponse) => void;
type Shown = { at: 'registry' | 'elsewhere'; url: string; authorization: string | undefined };

let server: Server;
let trap: Server; // with a certificate as good as the registry's
let host: string;
let handler: Handler;
let shown: Shown[] = [];
let strangers = 0; // connections to the trap, also those that ask nothing

async function listen(at: Shown['at'], answer: Handler): Promise<Server> {
  const one = createServer({ key, cert }, (request, response) => {
    shown.push({ at, url: request.url ?? '', authorization: request.headers.authorization });
    answer(request, response);
  });
  one.on('clientError', () => {});
  await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve));
  return one;
}

const portOf = (one: Server): number => (one.address() as AddressInfo).port;

beforeAll(async () => {
  server = await listen('registry', (request, response) => handler(request, response));
  trap = await listen('elsewhere', (_, response) => void response.end('{"token":"x"}'));
  trap.on('connection', () => (strangers += 1));
  host = `127.0.0.1:${portOf(server)}`;
});
afterAll(() => {
  for (const one of [server, trap]) {
    one.closeAllConnections();
    one.close();
  }
});

async function check(answer: Handler, signal = new AbortController().signal): Promise<CheckResult> {
  handler = answer;
  shown = [];
  strangers = 0;
  const dispatcher = new Agent({ connect: { ca: cert } });
  const result = await checkRegistry({ host, auth: AUTH, dispatcher, signal });
  await dispatcher.destroy();
  expect(strangers).toBe(0);
  expect(shown.filter(({ at }) => at === 'elsewhere')).toEqual([]);
  expect(JSON.stringify(result)).not.toContain('canary');
  return result;
}

const answer =
  (status: number, headers: Record<string, string | string[]> = {}, body: string | Buffer = ''): Handler =>
  (_, response) =>
    response.writeHead(status, headers).end(body);

const bearer = (realm: string): Handler =>
  answer(401, { ...REGISTRY, 'www-authenticate': `Bearer realm="${realm}",service="canary-service"` });

const fill = (text: string): string => text.replaceAll('HOST', host).replaceAll('PORT', String(portOf(trap)));

describe('a redirect', () => {
  const places = [
    'https://127.0.0.1:PORT/v2/',
    'https://localhost:PORT/v2/',
    '//127.0.0.1:PORT/v2/',
    'http://127.0.0.1:PORT/v2/',
    'http://HOST/v2/',
    'https://HOST/elsewhere',
    '/v2/',
    'https://HOST@127.0.0.1:PORT/v2/',
  ];
  it.each([300, 301, 302, 303, 305, 307, 308])(
    '%i is followed nowhere, and says nothing of the token',
    async (status) => {
      for (const place of places) {
        for (const headers of [REGISTRY, {}]) {
          const result = await check(answer(status, { ...headers, location: fill(place) }));
          expect(result).toEqual({
            verdict: 'unreachable',
            message: `${host} answered HTTP ${status}, which is no registry's word on the token`,
          });
          expect(shown).toEqual([{ at: 'registry', url: '/v2/', authorization: `Basic ${AUTH}` }]);
        }
      }
    },
  );

  it('of the token request is not followed either', async () => {
    for (const place of places) {
      const result = await check((request, response) =>
        request.url?.startsWith('/token')
          ? answer(307, { location: fill(place) })(request, response)
          : bearer(fill('https://HOST/token'))(request, response),
      );
      expect(result.verdict).toBe('unreachable');
      expect(shown).toHaveLength(2);
    }
  });
});

describe('a realm', () => {
  it.each([
    ['on another port', 'https://127.0.0.1:PORT/token'],
    ['on the port of HTTPS', 'https://127.0.0.1/token'],
    ['under another name of the same machine', 'https://localhost:PORT/token'],
    ['under a name below', 'https://other.HOST/token'],
    ['that begins with the host', 'https://HOST.other.localhost/token'],
    ['with the host as its user', 'https://HOST@127.0.0.1:PORT/token'],
    ['with the host as user and password', 'https://HOST:x@localhost:PORT/token'],
    ['with the host in its path', 'https://127.0.0.1:PORT/HOST/token'],
    ['with the host behind a backslash', 'https:\\\\127.0.0.1:PORT\\\\@HOST/token'],
    ['with the host behind #', 'https://127.0.0.1:PORT#@HOST/token'],
    ['with the host behind ?', 'https://127.0.0.1:PORT?@HOST/token'],
    ['by HTTP', 'http://HOST/token'],
    ['by HTTP on another port', 'http://127.0.0.1:PORT/token'],
    ['by another scheme', 'ftp://HOST/token'],
    ['by data', 'data:application/json,{"token":"x"}'],
    ['by file', 'file:///etc/passwd'],
    ['without scheme', '//127.0.0.1:PORT/token'],
    ['as a path', '/token'],
    ['as a name', '127.0.0.1:PORT'],
    ['of nothing', ''],
    ['in brackets', 'https://[::1]:PORT/token'],
    ['in hexadecimal', 'https://0x7f000001:PORT/token'],
  ])('%s is never given the token', async (_, realm) => {
    const result = await check(bearer(fill(realm)));
    expect(result).toEqual({
      verdict: 'unreachable',
      message: `${host} sends to another host for tokens, which is not given ours`,
    });
    expect(shown).toHaveLength(1);
  });

  it('that is named second, or in a second header, is no better', async () => {
    const own = fill('Basic realm="https://HOST/token"');
    const other = fill('Bearer realm="https://127.0.0.1:PORT/token"');
    for (const header of [
      `${own}, ${other}`,
      [own, other],
      [other, own],
      `${other}, realm="${fill('https://HOST/token')}"`,
    ]) {
      await check(answer(401, { ...REGISTRY, 'www-authenticate': header }));
      expect(shown).toHaveLength(1);
    }
  });

  it('on the own host is asked there, whatever user it names', async () => {
    await check((request, response) =>
      request.url?.startsWith('/token')
        ? answer(200, {}, '{"token":"canary-bearer"}')(request, response)
        : bearer(fill('https://somebody:secret@HOST/token'))(request, response),
    );
    expect(shown[1]).toMatchObject({ at: 'registry', authorization: `Basic ${AUTH}` });
  });
});

describe('an answer', () => {
  it('of any status is accepted where it is 200, a refusal where it is 400, 401 or 403 of a registry, and else nothing', async () => {
    for (let status = 200; status <= 599; status++) {
      for (const headers of [REGISTRY, {}]) {
        const isRefusal = [400, 401, 403].includes(status) && headers === REGISTRY;
        const verdict = status === 200 ? 'accepted' : isRefusal ? 'refused' : 'unreachable';
        expect({ status, ...(await check(answer(status, headers))) }).toMatchObject({ status, verdict });
        expect(shown).toHaveLength(1);
      }
    }
  });

  it.each<[string, Handler]>([
    ['that never comes', () => {}],
    ['that ends after the headers', (_, response) => response.writeHead(401, REGISTRY).flushHeaders()],
    [
      'that ends in the middle',
      (_, response) => void response.writeHead(200, { ...REGISTRY, 'content-length': '99' }).write('{'),
    ],
    [
      'that comes byte by byte',
      (_, response) => {
        response.writeHead(401, REGISTRY);
        const timer = setInterval(() => response.write(' '), 5);
        response.on('close', () => clearInterval(timer));
      },
    ],
    [
      'whose token never comes',
      (request, response) => {
        if (!request.url?.startsWith('/token')) bearer(fill('https://HOST/token'))(request, response);
      },
    ],
  ])('%s is given up with the check', async (_, hang) => {
    const started = performance.now();
    const result = await check(hang, AbortSignal.timeout(100));
    expect(result).toEqual({ verdict: 'unreachable', message: `${host} cannot be reached in time` });
    expect(performance.now() - started).toBeLessThan(2_000);
  });

  const raw =
    (...parts: (string | Buffer)[]): Handler =>
    ({ socket }) => {
      for (const part of parts) socket.write(part);
      socket.end();
    };
  it.each<[string, Handler]>([
    ['no HTTP', raw('canary: this is not HTTP\r\n\r\n')],
    ['bytes at random', raw(Buffer.from(Array.from({ length: 4_000 }, (_, i) => (i * 7919) % 256)))],
    ['nothing', raw('')],
    ['half a status line', raw('HTTP/1.1 20')],
    ['a status of four digits', raw('HTTP/1.1 2000 OK\r\n\r\n')],
    ['a length and chunks', raw('HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n')],
    ['a length below zero', raw('HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n')],
    ['a broken chunk', raw('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n')],
    ['another protocol', raw('HTTP/1.1 101 Switching Protocols\r\nupgrade: canary\r\nconnection: upgrade\r\n\r\n')],
    ['first steps for ever', ({ socket }) => pour(socket, Buffer.from('HTTP/1.1 100 Continue\r\n\r\n'.repeat(1_000)))],
    ['a header of a megabyte', raw(`HTTP/1.1 401 X\r\nx: ${'x'.repeat(2 ** 20)}\r\n\r\n`)],
    ['headers without end', ({ socket }) => pour(socket, Buffer.from(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(60_000)}`))],
    ['a hundred thousand headers', raw(`HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(100_000)}\r\n`)],
  ])('of %s is no word on the token, within 2 s and 20 MB', async (_, handle) => {
    let result: CheckResult | undefined;
    const started = performance.now();
    const growth = await memoryGrowth(async () => (result = await check(handle, AbortSignal.timeout(1_500))));
    expect(result?.verdict).toBe('unreachable');
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(growth).toBeLessThan(MOST_BYTES);
  });

  const piece = Buffer.alloc(64 * 1024, ' ');
  const bomb = gzipSync(Buffer.alloc(50_000_000, ' '));
  const gigabyte = { ...REGISTRY, 'content-length': String(2 ** 30) };
  it.each<[string, Handler, CheckResult['verdict']]>([
    ['a body without end', (_, response) => pour(response.writeHead(200, REGISTRY), piece), 'accepted'],
    ['a refusal without end', (_, response) => pour(response.writeHead(403, REGISTRY), piece), 'refused'],
    ['a claim of a gigabyte', (_, response) => pour(response.writeHead(403, gigabyte), piece), 'refused'],
    ['a gzip bomb', answer(200, { ...REGISTRY, 'content-encoding': 'gzip' }, bomb), 'accepted'],
    ['errors in errors', answer(403, {}, `{"errors":${'['.repeat(60_000)}`), 'unreachable'],
    ['lists in lists', answer(401, {}, '['.repeat(30_000) + ']'.repeat(30_000)), 'unreachable'],
    ['a key of every object', answer(403, {}, '{"__proto__":{"errors":[]},"constructor":1}'), 'unreachable'],
  ])('with %s costs neither time nor memory', async (_, handle, verdict) => {
    let result: CheckResult | undefined;
    const started = performance.now();
    const growth = await memoryGrowth(async () => (result = await check(handle)));
    expect(result?.verdict).toBe(verdict);
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(growth).toBeLessThan(MOST_BYTES);
  });

  it.each<[string, string | Buffer]>([
    ['without end', Buffer.alloc(10_000_000, ' ')],
    ['of a line break', JSON.stringify({ token: 'a\r\nx: canary' })],
    ['of a number', '{"token":1}'],
    ['of a list', '{"token":["canary"]}'],
    ['of nothing', '{"token":""}'],
    ['of an object', '{"token":{"canary":1}}'],
    ['in a prototype', '{"__proto__":{"token":"canary"}}'],
  ])('with a bearer token %s is no token, and sends nothing on', async (_, body) => {
    const result = await check((request, response) =>
      request.url?.startsWith('/token')
        ? answer(200, {}, body)(request, response)
        : bearer(fill('https://HOST/token'))(request, response),
    );
    expect(result).toEqual({ verdict: 'unreachable', message: `${host} answered its own token request with none` });
    expect(shown).toHaveLength(2);
  });

  it.each([
    ['commas', ','],
    ['blanks', ' '],
    ['commas and blanks', ', '],
    ['challenges', 'Bearer '],
    ['quotes', '"'],
    ['realms that are left open', ' realm="'],
    ['realms', ',realm="x"'],
    ['backslashes', '\\'],
  ])('with a challenge of %s is read in no time', async (_, part) => {
    const header = `Bearer ${part.repeat(Math.floor(14_000 / part.length))}realm=`;
    await check(answer(401, { ...REGISTRY, 'www-authenticate': header }));
    expect(shown).toHaveLength(1);
    const started = performance.now();
    for (let i = 0; i < 5; i++) await check(answer(401, { ...REGISTRY, 'www-authenticate': header }));
    expect(performance.now() - started).toBeLessThan(5 * 200);
  });
});

/** As fast as it is read, until nobody reads. */
function pour(to: Writable, piece: Buffer): void {
  const pieces = Readable.from(endless(piece), { objectMode: false });
  pipeline(pieces, to, () => {});
}

function* endless(piece: Buffer): Generator<Buffer> {
  for (;;) yield piece;
}
