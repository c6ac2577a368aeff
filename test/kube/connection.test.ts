import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';

import { ConfigurationError, TransientError } from '../../src/errors.ts';
import { connect } from '../../src/kube/connection.ts';
import { FakeClock } from '../fakeClock.ts';
import {
  answer,
  certificate,
  clientFor,
  clientOf,
  directory,
  failure,
  kubeconfig,
  startServer,
  statusBody,
  writeFile,
  type Handler,
} from './testServer.ts';

const list = { method: 'GET', path: '/api/v1/namespaces' } as const;
const good: Handler = (_, response) => answer(response, 200, { kind: 'List', items: [], metadata: {} });

describe('a wrong kubeconfig is told with its name', () => {
  it.each([
    ['/no/such/file', /cannot read the kubeconfig \/no\/such\/file/],
    [writeFile('users: [{"token: SECRET'), /file-\d+: it is no kubeconfig$/],
    [writeFile('just text'), /it is no kubeconfig/],
    [writeFile('{"clusters": [{"name": "c"}]}'), /clusters\[0\]\.cluster is missing/],
    [writeFile('{"clusters": []}'), /no current-context/],
    [writeFile('{"current-context": "x"}'), /no context x/],
    [kubeconfig('not a url'), /no URL/],
    [
      kubeconfig('https://127.0.0.1:1', { cluster: { 'certificate-authority': 'gone.crt' } }),
      /certificate authority .*gone\.crt/,
    ],
    [kubeconfig('https://127.0.0.1:1', { cluster: { 'proxy-url': 'ftp://x' } }), /proxy-url/],
    [kubeconfig('https://127.0.0.1:1', { user: { 'auth-provider': { name: 'gcp' } } }), /auth-provider/],
  ])('%s', (file, message) => {
    const attempt = (): unknown => connect({ kubeconfig: file, env: {} });
    expect(attempt).toThrow(ConfigurationError);
    expect(attempt).toThrow(message);
    expect(attempt).not.toThrow(/SECRET/);
  });
});

it('looks for the kubeconfig as kubectl does, and merges several', () => {
  const first = kubeconfig('http://first.example');
  const second = kubeconfig('http://second.example');
  const empty = writeFile('{}');
  const home = path.join(directory, 'home');
  mkdirSync(path.join(home, '.kube'), { recursive: true });
  writeFileSync(path.join(home, '.kube', 'config'), '{"current-context": "gone"}');
  expect(connect({ kubeconfig: first, env: { KUBECONFIG: second } }).server).toBe('http://first.example');
  expect(connect({ env: { KUBECONFIG: [empty, second, first].join(path.delimiter) } }).server).toBe(
    'http://second.example',
  );
  expect(connect({ env: { KUBECONFIG: first } }).namespace).toBe('here');
  expect(() => connect({ env: { HOME: home } })).toThrow(/no context gone/);
});

describe('in a pod', () => {
  function serviceAccount(token: string): string {
    const root = path.join(directory, `sa-${token}`);
    mkdirSync(root);
    writeFileSync(path.join(root, 'token'), `${token}\n`);
    writeFileSync(path.join(root, 'namespace'), 'ecr\n');
    execFileSync('cp', [certificate().certFile, path.join(root, 'ca.crt')]);
    return root;
  }

  it('over IPv6', async () => {
    const server = await startServer(good, { tls: true, host: '::1' });
    const env = { KUBERNETES_SERVICE_HOST: '::1', KUBERNETES_SERVICE_PORT: String(server.port) };
    const connection = connect({ env, serviceAccountDirectory: serviceAccount('six') });
    expect(connection.server).toBe(`https://[::1]:${server.port}`);
    expect(connection.namespace).toBe('ecr');
    await clientOf(connection).client.request(list);
    expect(server.requests).toHaveLength(1);
  });

  it('reads the token anew: after a minute, and after a 401', async () => {
    const root = serviceAccount('one');
    const seen: (string | undefined)[] = [];
    const server = await startServer(
      (request, response) => {
        seen.push(request.headers.authorization);
        if (request.headers.authorization === 'Bearer old') answer(response, 401, statusBody(401, 'Unauthorized'));
        else good(request, response);
      },
      { tls: true },
    );
    const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(server.port) };
    const clock = new FakeClock();
    const { client } = clientOf(connect({ env, clock, serviceAccountDirectory: root }), clock);
    await client.request(list);
    writeFileSync(path.join(root, 'token'), 'old');
    await client.request(list);
    await clock.advance(60_000);
    expect(await failure(client.request(list))).toBeInstanceOf(TransientError);
    writeFileSync(path.join(root, 'token'), '');
    expect(await failure(client.request(list))).toBeInstanceOf(TransientError);
    writeFileSync(path.join(root, 'token'), 'new');
    await client.request(list);
    expect(seen).toEqual(['one', 'one', 'old', 'old', 'new'].map((token) => `Bearer ${token}`));
  });

  it('without a token file, tries again', async () => {
    const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: '1' };
    const root = serviceAccount('none');
    execFileSync('rm', [path.join(root, 'token')]);
    const error = await failure(clientOf(connect({ env, serviceAccountDirectory: root })).client.request(list));
    expect(error).toMatchObject({ code: 'NoToken' });
    expect(error).toBeInstanceOf(TransientError);
  });
});

describe('who we are', () => {
  it.each([
    [{ token: 't' }, { authorization: 'Bearer t' }],
    [{ username: 'u', password: 'p' }, { authorization: `Basic ${Buffer.from('u:p').toString('base64')}` }],
    [{ tokenFile: writeFile('from-file\n'), token: 't' }, { authorization: 'Bearer from-file' }],
    [
      { token: 't', as: 'system:serviceaccount:a:b' },
      { authorization: 'Bearer t', 'impersonate-user': 'system:serviceaccount:a:b' },
    ],
  ])('%j', async (user, headers) => {
    const connection = connect({ kubeconfig: kubeconfig('http://x.example', { user }), env: {} });
    expect(await connection.headers()).toEqual(headers);
  });

  it('is asked of an exec plugin, relative to the kubeconfig, once', async () => {
    const plugin = path.join(directory, 'plugin.sh');
    writeFileSync(plugin, `#!/bin/sh\necho x >> ${directory}/calls\necho '{"status":{"token":"'$NAME'"}}'\n`);
    chmodSync(plugin, 0o755);
    const exec = {
      apiVersion: 'client.authentication.k8s.io/v1',
      command: './plugin.sh',
      env: [{ name: 'NAME', value: 'executed' }],
    };
    const connection = connect({ kubeconfig: kubeconfig('http://x.example', { user: { exec } }), env: {} });
    expect(await connection.headers()).toEqual({ authorization: 'Bearer executed' });
    await connection.headers();
    expect(execFileSync('wc', ['-l', `${directory}/calls`]).toString()).toMatch(/^1 /);
    connection.renew('token');
    await connection.headers();
    expect(execFileSync('wc', ['-l', `${directory}/calls`]).toString()).toMatch(/^2 /);
  });

  it('a failing plugin tells nothing of what it wrote', async () => {
    const exec = {
      apiVersion: 'client.authentication.k8s.io/v1',
      command: 'sh',
      args: ['-c', 'echo SECRET >&2; exit 1'],
    };
    const error = await failure(
      connect({ kubeconfig: kubeconfig('http://x.example', { user: { exec } }), env: {} }).headers(),
    );
    expect(error).toBeInstanceOf(TransientError);
    expect(error.message).toBe("the kubeconfig's exec plugin sh of user test failed");
    expect(error.cause).toBeUndefined();
  });
});

describe('TLS', () => {
  it('trusts the CA of the kubeconfig alone', async () => {
    const server = await startServer(good, { tls: true });
    const other = connect({
      kubeconfig: kubeconfig(server.url, { cluster: { 'certificate-authority': undefined } }),
      env: {},
    });
    const error = await failure(clientOf(other).client.request(list));
    expect(error.message).toMatch(
      /\((DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY_LEAF_SIGNATURE)\)$/,
    );
    await clientFor(server).client.request(list);
    await clientFor(server, {
      cluster: { 'certificate-authority': undefined, 'insecure-skip-tls-verify': true },
    }).client.request(list);
  });

  it('reads a replaced CA after a failed connection', async () => {
    const server = await startServer(good, { tls: true });
    const caFile = path.join(directory, 'rotated.crt');
    const other = path.join(directory, 'other');
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-keyout',
        other,
        '-out',
        caFile,
        '-subj',
        '/CN=other',
      ],
      { stdio: 'ignore' },
    );
    const { client } = clientFor(server, { cluster: { 'certificate-authority': caFile } });
    expect(await failure(client.request(list))).toBeInstanceOf(TransientError);
    execFileSync('cp', [certificate().certFile, caFile]);
    await failure(client.request(list));
    await client.request(list);
    expect(existsSync(caFile)).toBe(true);
  });
});

describe('proxy-url', () => {
  async function startProxy(): Promise<{ url: string; asked: string[] }> {
    const asked: string[] = [];
    const proxy: Server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      answer(response, 200, { kind: 'List', items: [], metadata: {} });
    });
    proxy.on('connect', (request, socket) => {
      asked.push(`CONNECT ${request.url}`);
      const [, host = '', port] = /^(.*):(\d+)$/.exec(request.url ?? '') ?? [];
      const upstream = net.connect(Number(port), host.replace(/[[\]]/g, ''), () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        upstream.pipe(socket).pipe(upstream);
      });
      upstream.on('error', () => socket.destroy());
      socket.on('error', () => upstream.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => {
      proxy.closeAllConnections();
      proxy.close();
    });
    return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, asked };
  }

  it.each(['127.0.0.1', '::1'])('is used for requests and watches, server on %s', async (host) => {
    const proxy = await startProxy();
    const server = await startServer(
      (request, response) => {
        if (request.url.includes('watch=true'))
          answer(response, 200, '{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n');
        else good(request, response);
      },
      { tls: true, host },
    );
    const { client } = clientFor(server, { cluster: { 'proxy-url': proxy.url } });
    await client.request(list);
    const events = [];
    const { signal } = new AbortController();
    for await (const event of client.watch({ path: list.path, query: {}, signal, idleMs: 1000 }))
      events.push(event.type);
    expect(events).toEqual(['BOOKMARK']);
    expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT ${server.url.replace('https://', '')}`]));
    expect(server.requests).toHaveLength(2);
  });

  it('forwards plain HTTP', async () => {
    const proxy = await startProxy();
    const server = await startServer(good);
    await clientFor(server, { cluster: { 'proxy-url': proxy.url } }).client.request(list);
    expect(proxy.asked).toEqual([`GET ${server.url}/api/v1/namespaces`]);
    expect(server.requests).toEqual([]);
  });

  it('that is down is a TransientError', async () => {
    const server = await startServer(good, { tls: true });
    const error = await failure(
      clientFor(server, { cluster: { 'proxy-url': 'http://127.0.0.1:1' } }).client.request(list),
    );
    expect(error).toBeInstanceOf(TransientError);
  });
});
