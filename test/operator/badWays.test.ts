import { createServer as createHttpsServer } from 'node:https';
import { createServer, type AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { selfSignedCertificate } from '../aws/selfSignedCertificate.ts';
import { eventually } from '../cluster/eventually.ts';
import { host, startWorld } from './world.ts';

// Names, proxies and authorities between us and AWS that are not as they should be: told with the remedy, and what was
// published before stays, though the identity of its token is another one now.

const namespaces = ['team-a', 'team-b'];

describe.concurrent('an operator that is started again with', () => {
  const askedPast = { AWS_ENDPOINT_URL_ECR: '' }; // the name that the SDK makes of the region, by way of the proxy

  it.each<[what: string, env: (port: number) => Record<string, string>, reason: string, message: RegExp]>([
    [
      'an endpoint whose name does not exist',
      () => ({ AWS_ENDPOINT_URL_ECR: 'https://api.ecr.us-esat-1.invalid', NO_PROXY: '127.0.0.1,.invalid' }),
      // Some resolvers answer EAI_AGAIN where there is no network.
      'HostNotFound|DnsFailure',
      /api\.ecr\.us-esat-1\.invalid.*the region us-east-1 may be mistyped/,
    ],
    [
      'a proxy that does not know the name',
      () => askedPast,
      'ProxyRefused',
      /no tunnel to api\.ecr\.us-east-1\.amazonaws\.com \(HTTP 502\): .*the region us-east-1 may be mistyped.*HTTPS_PROXY/,
    ],
    [
      'a proxy that wants a password',
      (port) => ({ ...askedPast, HTTPS_PROXY: `http://user:canary-password@127.0.0.1:${port}` }),
      'ProxyRefused',
      /no tunnel to api\.ecr\.us-east-1\.amazonaws\.com \(HTTP 407\): put its user and password into HTTPS_PROXY/,
    ],
    [
      'a proxy that is not there',
      () => ({ ...askedPast, HTTPS_PROXY: 'http://127.0.0.1:9' }),
      'Unreachable',
      /api\.ecr\.us-east-1\.amazonaws\.com cannot be reached \(ECONNREFUSED\): .*HTTPS_PROXY/,
    ],
  ])('%s tells it, and what was published before stays', async (_, env, reason, message) => {
    const proxy = await startProxy();
    await using _proxy = proxy;
    await expectTold(env(proxy.port), { reason, message });
  });

  it('an endpoint behind a CA that is not trusted tells it, and what was published before stays', async () => {
    const server = createHttpsServer(selfSignedCertificate(['127.0.0.1']), () => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const message = /the certificate of 127\.0\.0\.1 is not trusted .*mount its CA and name it in NODE_EXTRA_CA_CERTS/;
    await expectTold(
      { AWS_ENDPOINT_URL_ECR: `https://127.0.0.1:${port}` },
      { reason: 'CertificateUntrusted', message },
    );
    server.close();
  });
});

async function expectTold(
  env: Record<string, string>,
  { reason, message }: { reason: string; message: RegExp },
): Promise<void> {
  await using w = await startWorld({ namespaces });
  const first = await w.operator();
  w.apply();
  await w.ready();
  await w.quiet();
  await first.stop();
  const before = w.published(...namespaces);
  const second = await w.operator({ args: ['--removal-delay=20ms'], env: { AWS_MAX_ATTEMPTS: '1', ...env } });
  const told = await eventually('it is told', () => {
    const condition = w.condition('Refreshed');
    return condition?.status === 'False' ? condition : null;
  });
  expect(told.reason).toMatch(new RegExp(`^(${reason})$`));
  expect(told.message.slice(0, host.length)).toBe(host);
  expect(told.message).toMatch(message);
  await w.quiet();
  expect(JSON.stringify(w.resource()) + second.output.join('')).not.toContain('canary-password');
  expect(w.published(...namespaces)).toEqual(before);
}

/** Answers every CONNECT with 407. */
async function startProxy() {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
