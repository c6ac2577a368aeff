import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ecrHost } from '../cluster/door.ts';
import { eventually } from '../cluster/eventually.ts';
import { isLong } from '../cluster/scaled.ts';
import { askForRefresh, authIn, resourcePath, secretPath, type PullSecretResource } from '../cluster/served.ts';
import { createAuthority } from '../sandbox/certificate.ts';
import { HostProxy } from '../sandbox/hostProxy.ts';
import { LoopbackServer } from '../sandbox/loopbackServer.ts';
import { Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';
import { isTold, isToldNoMore, toldWithinMs, sumOf } from './telling.ts';

// The registry whose `/v2/` a new token is shown to before it is published, by its true name.

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const elsewhere = 'elsewhere.example';
const good: Answer = (_, response) =>
  void response.writeHead(200, { 'docker-distribution-api-version': 'registry/2.0' }).end('{}');
let answer: Answer = good;
const shownElsewhere: string[] = [];
let checks = 0;

let directory: string;
let registry: LoopbackServer;
let stranger: LoopbackServer;
let proxy: HostProxy;
let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  const authority = createAuthority();
  registry = await LoopbackServer.start(
    (request, response) => {
      request.resume();
      checks += 1;
      answer(request, response);
    },
    authority.issue([ecrHost]),
  );
  stranger = await LoopbackServer.start(
    (request, response) => {
      shownElsewhere.push(request.headers.authorization ?? 'nothing');
      response.writeHead(200).end('{"token":"given"}');
    },
    authority.issue([elsewhere]),
  );
  const ports = new Map([
    [ecrHost, registry],
    [elsewhere, stranger],
  ]);
  proxy = await HostProxy.start((host) => ports.get(host)?.port ?? null);
  directory = mkdtempSync(join(tmpdir(), 'ecr-registry-'));
  const bundle = join(directory, 'ca.crt');
  writeFileSync(bundle, authority.ca);
  night = await Night.begin({
    env: { HTTPS_PROXY: proxy.url, NO_PROXY: '127.0.0.1', NODE_EXTRA_CA_CERTS: bundle },
  });
  endurance = await Endurance.begin(night);
});
afterAll(async () => {
  await night?.end();
  await Promise.all([registry?.down(), stranger?.down(), proxy?.close()]);
  rmSync(directory, { recursive: true, force: true });
});

/** A refresh is asked for while the registry does this. */
function whileIt(does: Answer): Begin {
  return async ({ admin, ecr }) => {
    await ecr.rested();
    answer = does;
    await askForRefresh(admin);
    return () => {
      answer = good;
    };
  };
}

const said = (status: number, headers: Record<string, string>, body = ''): Answer => {
  return (_, response) => void response.writeHead(status, headers).end(body);
};
const html = { 'content-type': 'text/html' };
const ofRegistry = { 'docker-distribution-api-version': 'registry/2.0', 'content-type': 'application/json' };

const notReachable: [name: string, does: Answer][] = [
  ['redirects to a login page of somebody else', said(302, { location: `https://${elsewhere}/v2/` })],
  ['hangs', () => undefined],
  ['is a login page with 403', said(403, html, '<html>')],
  ['names a realm of somebody else', said(401, { 'www-authenticate': `Bearer realm="https://${elsewhere}/token"` })],
  ['answers a header of 1 MB', said(200, { 'x-long': 'x'.repeat(2 ** 20) })],
  ['closes the connection', (request) => void request.destroy()],
  ['is a login page with 200', said(200, html, '<html>')],
  ['has a fault', said(500, ofRegistry)],
  ['throttles', said(429, ofRegistry)],
  ['begins and never ends', (_, response) => void response.writeHead(200, ofRegistry).write('{')],
];
const inShort = 4;

/** What the status says beside the host. */
async function noteIs(wanted: RegExp | null): Promise<void> {
  await night.admin.waitFor<PullSecretResource>(
    resourcePath(),
    ({ status }) => {
      const message = status?.registries?.find(({ host }) => host === ecrHost)?.message;
      return wanted === null ? message === undefined : wanted.test(message ?? '');
    },
    toldWithinMs,
  );
}

if (!isLong)
  console.log(`${notReachable.length - inShort} more answers of a registry with --long: each takes ten seconds`);

describe('while the registry', () => {
  test.each(isLong ? notReachable : notReachable.slice(0, inShort))(
    '%s, it counts as not reachable: the new token is published, and nobody else is shown it',
    async (_, does) => {
      const [asked, issued] = [checks, night.ecr.issued.length];
      const during = async () => {
        await night.whole(endurance.namespaces, 20_000);
        await noteIs(new RegExp(`^not checked: ${ecrHost} `)); // no failure: nodes may reach it all the same
      };
      expect(await endurance.under(whileIt(does), { lastsMs: 500, during, calls: 1 })).toEqual([]);
      expect(checks).toBeGreaterThan(asked);
      expect(night.ecr.issued.length).toBe(issued + 1);
      expect(shownElsewhere.filter((authorization) => authorization !== 'nothing')).toEqual([]);
    },
  );

  test('refuses a new token, the good one stays everywhere, it is told, and a later one that is let in is published', async () => {
    const refusal = said(403, ofRegistry, '{"errors":[{"code":"DENIED","message":"canary of the registry"}]}');
    const before = authIn(await night.admin.get(secretPath('team-0')));
    const message = new RegExp(
      `^${ecrHost}: ${ecrHost} refuses the token \\(HTTP 403\\): look at its host and region .*: the new token is held back`,
    );
    const sample = 'ecr_pull_secrets_refresh_failures_total{reason="TokenRefused"}';
    const metric = { sample, above: await sumOf(night, sample) };
    const during = async () => {
      const told = await isTold(night, { condition: { type: 'Refreshed', reason: 'TokenRefused', message }, metric });
      expect(told.message).not.toContain('canary');
      expect(authIn(await night.admin.get(secretPath('team-0')))).toBe(before);
    };
    const broken = await endurance.under(
      async (now) => {
        const end = await whileIt(refusal)(now);
        return async () => {
          await end();
          const isLetIn = async () => authIn(await night.admin.get(secretPath('team-0'))) !== before;
          await eventually('a later one is published', isLetIn, 60_000);
        };
      },
      { lastsMs: 500, during, calls: 4 },
    );
    expect(broken).toEqual([]);
    await isToldNoMore(night, 'Refreshed');
    await noteIs(null);
  });
});

test('afterwards nothing is written, and AWS is left alone', async () => {
  const calls = night.ecr.calls.length;
  expect(await endurance.quiet()).toEqual([]);
  expect(night.ecr.calls.length).toBe(calls);
});
