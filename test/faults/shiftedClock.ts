import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const libraries = '/usr/lib';
const WITHIN_MS = 5_000;

/** Of the package libfaketime; null where it is not installed. */
function library(): string | null {
  const folders = existsSync(libraries) ? readdirSync(libraries) : [];
  const files = folders.map((folder) => join(libraries, folder, 'faketime/libfaketime.so.1'));
  return files.find((file) => existsSync(file)) ?? null;
}

/** The wall clock of a process, moved by libfaketime while it runs; its monotonic clock goes on as it is. */
export class ShiftedClock {
  readonly env: Record<string, string>;
  readonly #file: string;
  #offset = 0; // s

  /** Why there can be none here; null where there can. */
  static whyNot(): string | null {
    return library() === null ? 'libfaketime is not installed: scripts/installTools.sh does it' : null;
  }

  constructor(file: string) {
    this.#file = file;
    this.shift(0);
    this.env = {
      LD_PRELOAD: library() ?? '',
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1', // a change is seen at once
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
  }

  /** So many seconds ahead of the machine's. */
  shift(seconds: number): void {
    this.#offset = seconds;
    writeFileSync(`${this.#file}.new`, `${seconds < 0 ? '' : '+'}${seconds}\n`);
    renameSync(`${this.#file}.new`, this.#file); // never half of it is read
  }

  /** Whether a process of this clock showed this wall time (ms) within the last seconds. */
  isShownBy(wallMs: number): boolean {
    return Math.abs(wallMs - Date.now() - this.#offset * 1_000) < WITHIN_MS;
  }
}

/** For the API server: a certificate that is a day old, as those of clusters are, and valid on clocks that are behind. */
export function agedCertificate(dir: string): void {
  const certs = join(dir, 'certs');
  mkdirSync(certs);
  const names = 'DNS:kubernetes.default.svc,DNS:kubernetes.default,DNS:kubernetes,IP:127.0.0.1,IP:10.0.0.1';
  const { status, stderr } = spawnSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '30', '-subj', '/CN=127.0.0.1'],
      ...['-addext', `subjectAltName=${names}`],
      ...['-keyout', join(certs, 'apiserver.key'), '-out', join(certs, 'apiserver.crt')],
    ],
    { env: { ...process.env, LD_PRELOAD: library() ?? '', FAKETIME: '-1d' }, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`openssl: ${stderr}`);
}
