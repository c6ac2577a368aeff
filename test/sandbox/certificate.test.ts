import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { createAuthority, loopbackNames } from './certificate.ts';

const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';

describe('certificates made without openssl', () => {
  it('a leaf is signed by its authority and names hosts and addresses of both families', () => {
    const authority = createAuthority();
    const ca = new X509Certificate(authority.ca);
    const leaf = new X509Certificate(authority.issue(loopbackNames(host)).cert);
    expect(ca.ca).toBe(true);
    expect(ca.verify(ca.publicKey)).toBe(true);
    expect(leaf.ca).toBe(false);
    expect(leaf.verify(ca.publicKey)).toBe(true);
    expect(leaf.checkIssued(ca)).toBe(true);
    expect(leaf.subjectAltName).toBe(`DNS:${host}, DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1`);
    expect(leaf.checkIP('::1')).toBe('::1');
  });

  it('the leaf is valid from a day ago for a year, and no two have the same serial number', () => {
    const now = Date.UTC(2026, 0, 2, 3, 4, 5);
    const authority = createAuthority('test', now);
    const [one, other] = [authority.issue(['localhost']), authority.issue(['localhost'])];
    const leaf = new X509Certificate(one.cert);
    expect(leaf.validFrom).toBe('Jan  1 03:04:05 2026 GMT');
    expect(leaf.validTo).toBe('Jan  2 03:04:05 2027 GMT');
    expect(new X509Certificate(other.cert).serialNumber).not.toBe(leaf.serialNumber);
  });

  it.each([
    ['its own authority', true],
    ['another authority', false],
  ])('a client that trusts %s: %s', async (_, isTrusted) => {
    const authority = createAuthority();
    const server = createServer(authority.issue(loopbackNames(host))).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const ca = isTrusted ? authority.ca : createAuthority().ca;
    const socket = connect({ port: (server.address() as AddressInfo).port, servername: host, ca });
    const error = await once(socket, 'secureConnect').then(
      () => null,
      (error: NodeJS.ErrnoException) => error.code,
    );
    expect(socket.authorized).toBe(isTrusted);
    expect(error).toBe(isTrusted ? null : 'UNABLE_TO_VERIFY_LEAF_SIGNATURE');
    socket.destroy();
    server.close();
  });
});
