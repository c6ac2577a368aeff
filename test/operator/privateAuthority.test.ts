import { readFile, writeFile } from 'node:fs/promises';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { expect, it } from 'vitest';
import { selfSignedCertificate } from '../aws/selfSignedCertificate.ts';
import { eventually } from '../cluster/eventually.ts';
import { OperatorProcess } from '../demo/operatorProcess.ts';
import { startWorld } from './world.ts';

// Node reads NODE_EXTRA_CA_CERTS at its start alone, so this needs the operator as a process.

const roleArn = 'arn:aws:iam::222222222222:role/pull';

it('a private CA in NODE_EXTRA_CA_CERTS is trusted by the calls of ECR and STS and by the check of the registry', async () => {
  await using w = await startWorld({ namespaces: ['team-a'] });
  const certificate = selfSignedCertificate(['127.0.0.1']);
  await using ecr = await inspectTls(w.sandbox.aws.url('ecr'), certificate);
  await using sts = await inspectTls(w.sandbox.aws.url('sts'), certificate);
  const authorities = [await readFile(String(w.sandbox.env['NODE_EXTRA_CA_CERTS']), 'utf8'), certificate.cert];
  const bundle = join(w.sandbox.directory, 'bundle.crt');
  await writeFile(bundle, authorities.join('\n'));
  const operator = OperatorProcess.start(w.sandbox, {
    ...{ AWS_ENDPOINT_URL_ECR: ecr.url, AWS_ENDPOINT_URL_STS: sts.url, NODE_EXTRA_CA_CERTS: bundle },
  });
  await using _stopped = { [Symbol.asyncDispose]: async () => void (await operator.stop()) };
  const credentials = { operatorIdentity: {}, assumeRoleChain: [{ roleArn }] };
  w.apply({ credentials, verification: { mode: 'Required' } });
  await eventually('it is ready', () => w.isReady(), 10_000).catch((error: unknown) => {
    throw new Error(operator.tail(5).join('\n'), { cause: error });
  });
  expect(w.sandbox.aws.calls.map(({ operation }) => operation)).toEqual(['AssumeRole', 'GetAuthorizationToken']);
  expect([ecr.connections(), sts.connections()]).toEqual([1, 1]);
});

/** TLS of another authority before a server, as of a proxy that inspects it. */
async function inspectTls(origin: string, certificate: { key: string; cert: string }) {
  const { hostname, port } = new URL(origin);
  let connections = 0;
  const server = createServer(certificate, (socket) => {
    connections += 1;
    const onward = connect(Number(port), hostname);
    for (const end of [socket, onward]) end.on('error', () => [socket, onward].forEach((one) => one.destroy()));
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => connections,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
