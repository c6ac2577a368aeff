import { createHash, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';
import { isIP, isIPv4 } from 'node:net';
import { bits, boolean, explicit, implicit, integer, objectId, octets, sequence, set, utcTime, utf8 } from './der.ts';

export interface Certificate {
  readonly key: string; // PEM, as all of these
  readonly cert: string;
}

/** An authority of its own, made on the spot: no key lies in the repository, and no openssl is needed. */
export interface Authority {
  readonly ca: string;
  /** A server's certificate for these DNS names and IP addresses. */
  issue(names: readonly string[]): Certificate;
}

export function createAuthority(name = 'sandbox CA', now = Date.now()): Authority {
  const keys = newKeys();
  const issuer: Issuer = { name: distinguishedName(name), key: keys.privateKey, keyId: keyId(keys.publicKey) };
  const common = { issuer, now };
  return {
    ca: pem('CERTIFICATE', certificate({ ...common, subject: issuer.name, key: keys.publicKey, of: authority() })),
    issue(names) {
      const { privateKey, publicKey } = newKeys();
      const subject = distinguishedName(names[0] ?? 'server');
      return {
        key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
        cert: pem('CERTIFICATE', certificate({ ...common, subject, key: publicKey, of: server(names) })),
      };
    },
  };
}

/** For the hosts given and for loopback by its names and addresses. */
export function loopbackNames(...hosts: readonly string[]): string[] {
  return [...hosts, 'localhost', '127.0.0.1', '::1'];
}

interface Issuer {
  readonly name: Buffer;
  readonly key: KeyObject;
  readonly keyId: Buffer;
}

const DAY_MS = 86_400_000;
const ECDSA_WITH_SHA256 = sequence(objectId('1.2.840.10045.4.3.2'));

// RFC 5280, section 4.1.
function certificate(o: { issuer: Issuer; subject: Buffer; key: KeyObject; now: number; of: Buffer[] }): Buffer {
  const body = sequence(
    explicit(0, integer(Buffer.from([2]))), // version 3
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ECDSA_WITH_SHA256,
    o.issuer.name,
    // From yesterday on: clocks differ.
    sequence(utcTime(o.now - DAY_MS), utcTime(o.now + 365 * DAY_MS)),
    o.subject,
    spki(o.key),
    explicit(
      3,
      sequence(
        ...o.of,
        extension('2.5.29.14', octets(keyId(o.key))), // subject key identifier
        extension('2.5.29.35', sequence(implicit(0, o.issuer.keyId))), // authority key identifier
      ),
    ),
  );
  return sequence(body, ECDSA_WITH_SHA256, bits(sign('sha256', body, o.issuer.key)));
}

function authority(): Buffer[] {
  return [
    extension('2.5.29.19', sequence(boolean(true)), { critical: true }), // basic constraints: a CA
    extension('2.5.29.15', bits(Buffer.from([0b0000_0110]), 1), { critical: true }), // may sign certificates and CRLs
  ];
}

function server(names: readonly string[]): Buffer[] {
  return [
    extension('2.5.29.19', sequence(), { critical: true }), // no CA
    extension('2.5.29.15', bits(Buffer.from([0b1000_0000]), 7), { critical: true }), // digital signature
    extension('2.5.29.37', sequence(objectId('1.3.6.1.5.5.7.3.1'))), // server authentication
    extension('2.5.29.17', sequence(...names.map(alternativeName))),
  ];
}

function extension(id: string, value: Buffer, o: { critical?: boolean } = {}): Buffer {
  return sequence(objectId(id), ...(o.critical === true ? [boolean(true)] : []), octets(value));
}

function alternativeName(name: string): Buffer {
  return isIP(name) ? implicit(7, addressBytes(name)) : implicit(2, Buffer.from(name));
}

function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string): string[] => text.split(':').filter(Boolean);
  const [front, back] = [groups(head), groups(tail ?? '')];
  const zeros = tail === undefined ? [] : Array<string>(8 - front.length - back.length).fill('0');
  return Buffer.from([...front, ...zeros, ...back].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

function distinguishedName(commonName: string): Buffer {
  return sequence(set(sequence(objectId('2.5.4.3'), utf8(commonName.slice(0, 64)))));
}

function newKeys(): { privateKey: KeyObject; publicKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function spki(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}

function keyId(key: KeyObject): Buffer {
  return createHash('sha1').update(spki(key)).digest();
}

function pem(label: string, content: Buffer): string {
  const lines = content.toString('base64').match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}
