import { getEventListeners, once } from 'node:events';
import type { Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';

import {
  ConfigurationError,
  ConflictError,
  GoneError,
  StoppedError,
  ThrottledError,
  TransientError,
} from '../../src/errors.ts';
import { ApiStatusError } from '../../src/kube/apiStatusError.ts';
import type { KubeRequest } from '../../src/kube/client.ts';
import type { KubeList } from '../../src/kube/kubeObject.ts';
import { FakeClock, flush } from '../fakeClock.ts';
import { memoryGrowth } from '../memoryGrowth.ts';
import { answer, clientFor, failure, startServer, statusBody, until } from './testServer.ts';

const list: KubeRequest = { method: 'GET', path: '/api/v1/namespaces' };
const secret: KubeRequest = { method: 'GET', path: '/api/v1/namespaces/team/secrets/pull' };
const jsonPatch: KubeRequest = {
  method: 'PATCH',
  patch: 'json',
  path: '/api/v1/namespaces/team/serviceaccounts/default',
  body: [{ op: 'test', path: '/metadata/resourceVersion', value: '7' }],
};

describe('what is no answer of an API server is a TransientError', () => {
  const namespaces = { kind: 'NamespaceList', apiVersion: 'v1', metadata: { resourceVersion: '1' } };
  const cases: [string, number, unknown, Record<string, string>, string][] = [
    ['HTML with 200', 200, '<html>login</html>', { 'content-type': 'text/html' }, 'NotKubernetes'],
    ['an empty body', 200, '', {}, 'NotKubernetes'],
    ['a list without items', 200, namespaces, {}, 'NotKubernetes'],
    ['items that are none', 200, { ...namespaces, items: {} }, {}, 'NotKubernetes'],
    ['a single object', 200, { kind: 'Namespace', items: [] }, {}, 'NotKubernetes'],
    ['no kind', 200, { items: [] }, {}, 'NotKubernetes'],
    ['an array', 200, [], {}, 'NotKubernetes'],
    ['a Status with 200', 200, statusBody(403, 'Forbidden'), {}, 'NotKubernetes'],
    ['half a body', 200, '{"kind":"NamespaceList","items":[', {}, 'NotKubernetes'],
    ['a redirect', 302, '', { location: 'https://login.example' }, 'Redirect'],
    ['HTML with 403', 403, '<html>', { 'content-type': 'text/html' }, 'HTTP403'],
    ['HTML with 404', 404, '<html>not found</html>', { 'content-type': 'text/html' }, 'HTTP404'],
    ['HTML with 502', 502, '<html>', { 'content-type': 'text/html' }, 'HTTP502'],
    ['503 without Retry-After', 503, 'no', {}, 'HTTP503'],
    ['an encoding that was not asked for', 200, namespaces, { 'content-encoding': 'gzip' }, 'Encoded'],
    ['401', 401, statusBody(401, 'Unauthorized'), {}, 'Unauthorized'],
    ['500', 500, statusBody(500, 'InternalError'), {}, 'InternalError'],
  ];
  it.each(cases)('%s', async (_, status, body, headers, code) => {
    const server = await startServer((_request, response) => answer(response, status, body, headers));
    const { client, counted } = clientFor(server);
    const error = await failure(client.request(list));
    expect(error).toBeInstanceOf(TransientError);
    expect(error.code).toBe(code);
    expect(counted).toEqual([`list ${status === 200 ? code : status}`]); // a good status alone is no good answer
    expect(error.message).not.toContain('login');
  });

  it('a gzip bomb is not opened: it costs no memory', async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000));
    const server = await startServer((_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' });
      response.end(bomb);
    });
    const { client } = clientFor(server);
    const growth = await memoryGrowth(async () => {
      expect((await failure(client.request(list))).code).toBe('Encoded');
    });
    expect(growth).toBeLessThan(20_000_000);
  });

  it('an answer without end is cut', async () => {
    const server = await startServer((_, response) => {
      response.writeHead(200);
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(4_000_000, ' ')));
        if (!response.destroyed) response.once('drain', more);
      };
      more();
    });
    expect((await failure(clientFor(server).client.request(list))).code).toBe('TooLarge');
  });

  it('endless headers are cut', async () => {
    const server = await startServer((_, response) => answer(response, 200, {}, { x: 'y'.repeat(100_000) }));
    expect(await failure(clientFor(server).client.request(list))).toBeInstanceOf(TransientError);
  });

  it('nobody listens', async () => {
    const server = await startServer(() => undefined);
    const { client, counted } = clientFor({ ...server, url: 'http://127.0.0.1:1' });
    const error = await failure(client.request(list));
    expect(error).toBeInstanceOf(TransientError);
    expect(error.message).toBe('cannot list namespaces: no connection to the API server (ECONNREFUSED)');
    expect(counted).toEqual(['list Network']);
  });
});

it.each([[null], [[]]])('items %j is an empty list', async (items) => {
  const server = await startServer((_, response) =>
    answer(response, 200, { kind: 'PartialObjectMetadataList', items }),
  );
  expect((await clientFor(server).client.request<KubeList>(list)).items).toEqual([]);
});

describe('a Status', () => {
  const conflicts = { causes: [{ reason: 'FieldManagerConflict', message: 'conflict with "helm"', field: '.data.a' }] };
  const policy = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
  const cases: [KubeRequest, object, new (...args: never[]) => Error, string][] = [
    [secret, statusBody(404, 'NotFound'), ApiStatusError, 'NotFound'],
    [secret, statusBody(403, 'Forbidden'), ApiStatusError, 'Forbidden'],
    [secret, statusBody(409, 'Conflict'), ConflictError, 'Conflict'],
    [secret, statusBody(409, 'Conflict', conflicts), ApiStatusError, 'Conflict'],
    [secret, statusBody(409, 'AlreadyExists'), ConflictError, 'AlreadyExists'],
    [
      secret,
      statusBody(403, 'Forbidden', { causes: [{ reason: 'NamespaceTerminating' }] }),
      GoneError,
      'NamespaceTerminating',
    ],
    [list, statusBody(410, 'Expired'), ApiStatusError, 'Expired'],
    [list, statusBody(400, 'BadRequest'), ApiStatusError, 'BadRequest'],
    [jsonPatch, statusBody(422, 'Invalid'), ConflictError, 'PatchTestFailed'],
    [jsonPatch, statusBody(422, 'Invalid', { causes: [{ message: policy }] }), ApiStatusError, 'Invalid'],
    [secret, statusBody(422, 'Invalid'), ApiStatusError, 'Invalid'],
    [
      list,
      statusBody(504, 'Timeout', { causes: [{ reason: 'ResourceVersionTooLarge' }] }),
      TransientError,
      'ResourceVersionTooLarge',
    ],
    [list, statusBody(429, 'TooManyRequests', { retryAfterSeconds: 3 }), ThrottledError, 'TooManyRequests'],
  ];
  it.each(cases)('%j %j', async (request, body, type, code) => {
    const server = await startServer((_, response) => answer(response, (body as { code: number }).code, body));
    const error = await failure(clientFor(server).client.request(request));
    expect(error).toBeInstanceOf(type);
    expect(error.code).toBe(code);
  });

  it('of an unknown group is plain text', async () => {
    const server = await startServer((_, response) => answer(response, 404, '404 page not found\n'));
    const error = await failure(clientFor(server).client.request({ method: 'GET', path: '/apis/x.io/v1/things' }));
    expect(error).toMatchObject({ status: 404, resource: 'things', verb: 'list' });
    expect(error).toBeInstanceOf(ConfigurationError);
  });

  it('keeps no text of a Secret but what is known to be harmless', async () => {
    const causes = [
      { reason: 'FieldValueInvalid', message: 'Invalid value: "S3CRET"', field: 'data[.dockerconfigjson]' },
      {
        reason: 'FieldValueInvalid',
        message: 'Invalid value: "S3CRET": field is immutable when `immutable` is set',
        field: 'data',
      },
      { message: policy },
    ];
    const body = statusBody(422, 'Invalid', { causes }, 'Secret "pull" is invalid: data: Invalid value: "S3CRET"');
    const server = await startServer((_, response) => answer(response, 422, body));
    const error = (await failure(clientFor(server).client.request(secret))) as unknown as ApiStatusError;
    expect(JSON.stringify([error.message, error.causes])).not.toContain('S3CRET');
    expect(error.causes.map((cause) => cause.message)).toEqual([
      undefined,
      'field is immutable when `immutable` is set',
      policy,
    ]);
    expect(error).toMatchObject({ namespace: 'team', objectName: 'pull' });
  });

  const denial = 'admission webhook "guard.example.org" denied the request: S3CRET';
  it.each([403, 401, 409, 410, 422, 500])(
    'that a webhook denies with %i is no word of the API server’s',
    async (code) => {
      const body = statusBody(code, 'Invalid', {}, denial);
      const server = await startServer((_, response) => answer(response, code, body));
      const apply: KubeRequest = { ...secret, method: 'PATCH', patch: 'apply', body: {} };
      for (const request of [jsonPatch, apply]) {
        const error = await failure(clientFor(server).client.request(request));
        expect(error).toBeInstanceOf(ApiStatusError);
        expect(error.message).toContain('admission webhook "guard.example.org" denied the request');
        if (request === apply) expect(error.message).not.toContain('S3CRET');
      }
    },
  );

  it.each([
    [
      403,
      'secrets "pull" is forbidden: exceeded quota: few, requested: count/secrets=1',
      /exceeded quota: few; raise that quota/,
    ],
    [403, denial, /webhook "guard.example.org" denied the request; whoever runs it must let this write pass/],
    [
      500,
      'Internal error occurred: failed calling webhook "guard.example.org": failed to call webhook: Post "https://10.0.0.1/S3CRET": EOF',
      /500 InternalError: failed calling webhook "guard.example.org"; mend that webhook/,
    ],
    [413, 'Request entity too large: limit is 3145728', /413 RequestEntityTooLarge; raise the limit/],
    [422, 'Secret "pull" is invalid: S3CRET', /422 Invalid; .*audit log/],
  ])('%i of a write names cause and remedy: %s', async (code, message, told) => {
    const reason = new Map([
      [500, 'InternalError'],
      [413, 'RequestEntityTooLarge'],
      [422, 'Invalid'],
    ]).get(code);
    const server = await startServer((_, response) =>
      answer(response, code, statusBody(code, reason ?? 'Forbidden', {}, message)),
    );
    const error = await failure(
      clientFor(server).client.request({ ...secret, method: 'PATCH', patch: 'apply', body: {} }),
    );
    expect(error.message).toMatch(told);
    expect(error.message).toMatch(/^cannot apply secrets team\/pull: /);
    expect(error.message).not.toContain('S3CRET');
  });

  it('of any other kind is told', async () => {
    const server = await startServer((_, response) =>
      answer(response, 403, statusBody(403, 'Forbidden', {}, 'quota is used up')),
    );
    const error = await failure(
      clientFor(server).client.request({ ...list, path: '/api/v1/namespaces/team/serviceaccounts' }),
    );
    expect(error.message).toBe('cannot list serviceaccounts team: 403 Forbidden: quota is used up');
  });
});

describe('Retry-After', () => {
  const date = 'Thu, 01 Jan 2026 12:00:00 GMT';
  it.each([
    [{ 'retry-after': '7' }, 7000],
    [{ 'retry-after': 'Thu, 01 Jan 2026 12:00:09 GMT', date }, 9000],
    [{ 'retry-after': 'Thu, 01 Jan 2020 12:00:00 GMT', date }, 100],
    [{ 'retry-after': '99999' }, 300_000],
    [{ 'retry-after': 'soon' }, 1000],
    [{}, 1000],
  ] as [Record<string, string>, number][])('%j of a 429', async (headers, ms) => {
    const server = await startServer((_, response) => answer(response, 429, 'slow down', headers));
    const error = await failure(clientFor(server).client.request(list));
    expect(error).toBeInstanceOf(ThrottledError);
    expect(error).toMatchObject({ retryAfterMs: ms });
  });

  it('of a 503', async () => {
    const server = await startServer((_, response) => answer(response, 503, '', { 'retry-after': '2' }));
    expect(await failure(clientFor(server).client.request(list))).toMatchObject({ retryAfterMs: 2000 });
  });

  it.each([
    [{ 'retry-after': '7' }, {}, 7000],
    [{ 'retry-after': '7' }, { retryAfterSeconds: 3 }, 7000],
    [{}, { retryAfterSeconds: 3 }, 3000],
  ] as [Record<string, string>, object, number][])('%j beside a Status with %j', async (headers, details, ms) => {
    for (const [code, reason] of [[429, 'TooManyRequests'] as const, [503, 'ServiceUnavailable'] as const]) {
      const body = statusBody(code, reason, details);
      const server = await startServer((_, response) => answer(response, code, body, headers));
      const error = await failure(clientFor(server).client.request(list));
      expect(error).toBeInstanceOf(ThrottledError);
      expect(error).toMatchObject({ retryAfterMs: ms });
    }
  });
});

describe('the deadline', () => {
  it.each(['nothing', 'headers', 'half a body'])('holds where %s came', async (what) => {
    let reached = false;
    const server = await startServer((_, response) => {
      reached = true;
      if (what !== 'nothing') response.writeHead(200).flushHeaders();
      if (what === 'half a body') response.write('{"kind":');
    });
    const { client, clock, counted } = clientFor(server);
    const failed = failure(client.request(list));
    await until(() => reached);
    await clock.advance(7999);
    await clock.advance(1);
    const error = await failed;
    expect(error.message).toBe('cannot list namespaces: no answer within 8 s');
    expect(error).toBeInstanceOf(TransientError);
    expect(counted.at(-1)).toBe('list Deadline');
    await until(() => server.sockets.size === 0, 'the connection is given up');
    expect(clock.pending).toBe(0);
  });

  it('of a write tells what may have held it up', async () => {
    let reached = false;
    const server = await startServer(() => void (reached = true));
    const { client, clock } = clientFor(server);
    const failed = failure(client.request(jsonPatch));
    await until(() => reached);
    await clock.advance(8_000);
    expect((await failed).message).toMatch(/default: no answer within 8 s; .* admission webhook/);
  });

  it('leaves no timer behind', async () => {
    const server = await startServer((_, response) => answer(response, 200, { kind: 'List', items: [] }));
    const { client, clock } = clientFor(server);
    await client.request(list);
    expect(clock.pending).toBe(0);
  });
});

describe('connections', () => {
  it('are few for many requests', async () => {
    const server = await startServer((_, response) => answer(response, 200, { kind: 'List', items: [] }), {
      tls: true,
    });
    const { client } = clientFor(server);
    for (let i = 0; i < 30; i++) await client.request(list);
    expect(server.connections).toBeLessThanOrEqual(2);
    for (let round = 0; round < 5; round++) await Promise.all(Array.from({ length: 10 }, () => client.request(list)));
    // undici frees a connection one turn after its answer: up to two for each request that runs.
    expect(server.connections).toBeLessThanOrEqual(20);
    expect(server.requests).toHaveLength(80);
  });

  it('of a fork are its own', async () => {
    const server = await startServer((_, response) => answer(response, 200, { kind: 'List', items: [] }));
    const { client, connection } = clientFor(server);
    await client.request(list);
    const fork = connection.fork();
    expect(fork.dispatcher).not.toBe(connection.dispatcher);
    await fork.close();
    const before = server.connections;
    await new Promise(setImmediate);
    await client.request(list);
    expect(server.connections).toBe(before);
  });

  it.each([
    ['TLS', true],
    ['plain TCP', false],
  ])('over %s are reset where a request is given up: the kernel delivers nothing of it later', async (_, tls) => {
    const arrived = Promise.withResolvers<Socket>();
    const server = await startServer((_, response) => answer(response, 200, { kind: 'List', items: [] }), { tls });
    const { client } = clientFor(server);
    await client.request(list);
    server.handle = ({ socket }) => arrived.resolve(socket);
    const stop = new AbortController();
    const asked = client.request({ ...jsonPatch, signal: stop.signal });
    const socket = await arrived.promise;
    const ended = new Promise((resolve) => {
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
      socket.once('close', () => resolve('closed in order'));
    });
    stop.abort();
    await expect(asked).rejects.toThrow(/stopped/);
    expect(await ended).toBe('ECONNRESET');
  });

  // Case E4: a proxy or load balancer drops idle connections, and a request meets one just then.
  const idempotent: [string, KubeRequest, boolean][] = [
    ['GET', list, true],
    ['apply', { ...secret, method: 'PATCH', patch: 'apply', body: {} }, true],
    ['PUT with resourceVersion', { ...secret, method: 'PUT', body: { metadata: { resourceVersion: '1' } } }, true],
    ['JSON patch that tests', jsonPatch, true],
    ['PUT without', { ...secret, method: 'PUT', body: { metadata: {} } }, false],
    ['POST', { ...list, method: 'POST', body: {} }, false],
    ['JSON patch that does not test', { ...jsonPatch, body: [{ op: 'add', path: '/a', value: 1 }] }, false],
  ];
  it.each(idempotent)('closed under a %s', async (_, request, isRetried) => {
    let drop = false;
    const server = await startServer((got, response) => {
      if (drop) {
        drop = false;
        got.socket.resetAndDestroy();
        return;
      }
      answer(response, 200, { kind: 'List', items: [], metadata: {} });
    });
    const { client } = clientFor(server);
    await client.request(list);
    drop = true;
    const outcome = client.request(request);
    const code = await outcome.then(
      () => 'good',
      (error: { code: string }) => error.code,
    );
    expect(code).toBe(isRetried ? 'good' : 'Network');
    expect(server.requests).toHaveLength(isRetried ? 3 : 2);
  });

  it('closed while idle', async () => {
    const server = await startServer((_, response) => answer(response, 200, { kind: 'List', items: [] }));
    const { client } = clientFor(server);
    await client.request(list);
    for (const socket of server.sockets) socket.destroy();
    await client.request(list);
    expect(server.connections).toBe(2);
  });

  it('lost in the middle of an answer are no second try', async () => {
    const server = await startServer((got, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('{', () => got.socket.resetAndDestroy());
    });
    expect(await failure(clientFor(server).client.request(list))).toBeInstanceOf(TransientError);
    expect(server.requests).toHaveLength(1);
  });
});

describe('a watch', () => {
  const event = JSON.stringify({ type: 'ADDED', object: { kind: 'Namespace', metadata: { name: 'team-a' } } });

  async function watched(text: string): Promise<number> {
    const server = await startServer((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(text);
    });
    const { client } = clientFor(server);
    const { signal } = new AbortController();
    let events = 0;
    for await (const _ of client.watch({ path: list.path, query: {}, signal, idleMs: 60_000 })) events += 1;
    return events;
  }

  it('that ends between two events has ended', async () => {
    expect(await watched(`${event}\n${event}\n`)).toBe(2);
  });

  it('that is not answered is given up long before one that is silent', async () => {
    const server = await startServer(() => undefined);
    const clock = new FakeClock();
    const { client } = clientFor(server, { clock });
    const { signal } = new AbortController();
    const watch = client.watch({ path: list.path, query: {}, signal, idleMs: 150_000 });
    const failed = failure(watch.next());
    await until(() => server.requests.length === 1);
    await clock.advance(19_000);
    expect(clock.pending).toBe(1);
    await clock.advance(1_000);
    expect(await failed).toMatchObject({ code: 'Silent', message: 'no answer to the watch within 20 s' });
    expect(clock.pending).toBe(0);
  });

  it('that ends in the middle of an event has failed', async () => {
    expect(await failure(watched(`${event}\n${event.slice(0, 30)}`))).toMatchObject({
      code: 'Network',
      message: 'the watch ended in the middle of an event',
    });
  });
});

describe('beforeSend', () => {
  it('is called when the connection stands, and what it throws leaves the request unsent', async () => {
    const server = await startServer((_, response) => answer(response, 200, { kind: 'List', items: [] }), {
      tls: true,
    });
    const { client } = clientFor(server);
    const stopped = new StoppedError('NotLeader', 'no longer leading');
    const calls: number[] = [];
    const refuse = (): undefined => {
      calls.push(server.connections);
      throw stopped;
    };
    expect(await failure(client.request({ ...list, beforeSend: refuse }))).toBe(stopped);
    expect(calls).toHaveLength(1);
    expect(server.requests).toEqual([]);
    await client.request({ ...list, beforeSend: () => undefined });
    expect(server.requests).toHaveLength(1);
  });

  it('gives a signal: it ends the request that is on its way, and nothing listens to it after one that was answered', async () => {
    const term = new AbortController();
    const stopped = new StoppedError('NotLeading', 'the lease is not ours');
    const server = await startServer((_, response) => answer(response, 200, { kind: 'List', items: [] }));
    const { client } = clientFor(server);
    const beforeSend = () => term.signal;
    for (let i = 0; i < 3; i++) await client.request({ ...list, beforeSend });
    expect(getEventListeners(term.signal, 'abort')).toEqual([]);
    const arrived = Promise.withResolvers<Socket>();
    server.handle = ({ socket }) => arrived.resolve(socket);
    const failed = failure(client.request({ ...list, beforeSend }));
    const reset = once(await arrived.promise, 'error');
    term.abort(stopped);
    expect(await failed).toBe(stopped);
    await reset;
    expect(getEventListeners(term.signal, 'abort')).toEqual([]);
  });

  it('is not called where there is no server', async () => {
    let called = false;
    const server = await startServer(() => undefined);
    const { client } = clientFor({ ...server, url: 'http://127.0.0.1:1' });
    await failure(client.request({ ...list, beforeSend: () => void (called = true) }));
    expect(called).toBe(false);
  });
});

describe('a stop', () => {
  it('ends a request that runs', async () => {
    const server = await startServer(() => undefined);
    const stop = new AbortController();
    const failed = failure(clientFor(server).client.request({ ...list, signal: stop.signal }));
    await until(() => server.requests.length === 1);
    stop.abort();
    expect(await failed).toBeInstanceOf(StoppedError);
  });

  it('sends nothing where it came before', async () => {
    const server = await startServer(() => undefined);
    expect(await failure(clientFor(server).client.request({ ...list, signal: AbortSignal.abort() }))).toBeInstanceOf(
      StoppedError,
    );
    await flush();
    expect(server.requests).toEqual([]);
  });
});

it('asks as the patch and the view want it', async () => {
  const seen: (string | undefined)[][] = [];
  const server = await startServer((request, response) => {
    const { accept, 'content-type': type, authorization } = request.headers;
    seen.push([request.method, request.url, accept, type, authorization, request.body]);
    answer(response, 200, { kind: 'PartialObjectMetadataList', metadata: {}, items: [] });
  });
  const { client } = clientFor(server);
  await client.request({ ...list, metadataOnly: true, query: { fieldSelector: 'metadata.name=a' } });
  await client.request({
    ...secret,
    method: 'PATCH',
    patch: 'apply',
    metadataOnly: true,
    query: { fieldManager: 'm' },
    body: { a: 'ä' },
  });
  await client.request({ ...secret, method: 'PATCH', patch: 'merge', body: {} });
  await client.request(jsonPatch);
  const meta = (kind: string): string => `application/json;as=${kind};g=meta.k8s.io;v=v1`;
  const path = '/api/v1/namespaces/team/secrets/pull';
  expect(seen.map((entry) => entry.slice(0, 4))).toEqual([
    ['GET', '/api/v1/namespaces?fieldSelector=metadata.name%3Da', meta('PartialObjectMetadataList'), undefined],
    ['PATCH', `${path}?fieldManager=m`, meta('PartialObjectMetadata'), 'application/apply-patch+yaml'],
    ['PATCH', path, 'application/json', 'application/merge-patch+json'],
    ['PATCH', jsonPatch.path, 'application/json', 'application/json-patch+json'],
  ]);
  expect(seen[1]?.[5]).toBe('{"a":"ä"}');
  expect(seen[0]?.[4]).toBe('Bearer a-token');
});

it('tells how far the server clock is off', async () => {
  const server = await startServer((_, response) =>
    answer(response, 200, { kind: 'List', items: [] }, { date: 'Thu, 01 Jan 2026 00:01:00 GMT' }),
  );
  const { client } = clientFor(server, { clock: new FakeClock('2026-01-01T00:00:00Z') });
  expect(client.serverTimeOffsetMs).toBeNull();
  await client.request(list);
  expect(client.serverTimeOffsetMs).toBe(60_000);
});
