import { networkInterfaces } from 'node:os';

import { afterEach, describe, expect, it } from 'vitest';

import { ConfigurationError } from '../../src/errors.ts';
import { serveHealth, serveMetrics, type Listener } from '../../src/observability/health.ts';
import { Metrics } from '../../src/observability/metrics.ts';

const open: Listener[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((listener) => listener.close()));
});

async function kept(listening: Promise<Listener | null>): Promise<Listener> {
  const listener = await listening;
  if (!listener) throw new Error('nothing listens');
  open.push(listener);
  return listener;
}

async function get(port: number, path: string, init?: RequestInit): Promise<[number, string]> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
  return [response.status, await response.text()];
}

describe('health', () => {
  it('tells life and readiness apart, with the reason in the body', async () => {
    let reason: string | null = 'namespaces are not listed yet: 403';
    let isAlive = true;
    const { port } = await kept(
      serveHealth({ bindAddress: '127.0.0.1:0', isAlive: () => isAlive, whyNotReady: () => reason }),
    );
    expect(await get(port, '/healthz')).toEqual([200, 'ok\n']);
    expect(await get(port, '/readyz')).toEqual([503, 'namespaces are not listed yet: 403\n']);
    reason = null;
    isAlive = false;
    expect(await get(port, '/readyz?verbose')).toEqual([200, 'ok\n']);
    expect((await get(port, '/healthz'))[0]).toBe(503);
  });

  it('answers nothing else', async () => {
    const { port } = await kept(
      serveHealth({ bindAddress: '127.0.0.1:0', isAlive: () => true, whyNotReady: () => null }),
    );
    for (const path of ['/', '/metrics', '/constructor', '/healthz/', '/__proto__']) {
      expect((await get(port, path))[0]).toBe(404);
    }
    expect((await get(port, '/healthz', { method: 'POST', body: 'x' }))[0]).toBe(405);
  });
});

describe('metrics', () => {
  it('are served at /metrics alone', async () => {
    const metrics = new Metrics();
    metrics.leader(true);
    const { port } = await kept(serveMetrics({ bindAddress: '127.0.0.1:0', metrics }));
    const response = await fetch(`http://127.0.0.1:${port}/metrics`);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(await response.text()).toContain('ecr_pull_secrets_leader 1');
    expect((await get(port, '/'))[0]).toBe(404);
  });

  it('that cannot be read are a 500, and the process lives', async () => {
    const metrics = new Metrics();
    metrics.beforeScrape(() => {
      throw new Error('secret detail');
    });
    const { port } = await kept(serveMetrics({ bindAddress: '127.0.0.1:0', metrics }));
    expect(await get(port, '/metrics')).toEqual([500, 'the metrics could not be read\n']);
  });
});

describe('addresses', () => {
  const health = (bindAddress: string): Promise<Listener | null> =>
    serveHealth({ bindAddress, isAlive: () => true, whyNotReady: () => null });
  const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ family }) => family === 'IPv6'));

  it('0 is off', async () => {
    expect(await health('0')).toBeNull();
  });

  it('without a host IPv4 is listened on', async () => {
    const { port } = await kept(health(':0'));
    expect((await get(port, '/healthz'))[0]).toBe(200);
  });

  it.runIf(hasIpv6)('without a host IPv6 is listened on too', async () => {
    const { port } = await kept(health(':0'));
    expect((await fetch(`http://[::1]:${port}/healthz`)).status).toBe(200);
  });

  it.runIf(hasIpv6)('an IPv6 address stands in brackets', async () => {
    const { port } = await kept(health('[::1]:0'));
    expect((await fetch(`http://[::1]:${port}/healthz`)).status).toBe(200);
  });

  it('a taken port is told by its address', async () => {
    const { port } = await kept(health('127.0.0.1:0'));
    const failed = health(`127.0.0.1:${port}`);
    await expect(failed).rejects.toThrow(`cannot listen on 127.0.0.1:${port}: EADDRINUSE`);
    await expect(failed).rejects.toBeInstanceOf(ConfigurationError);
  });

  it('what is no address is refused', async () => {
    await expect(health('nonsense')).rejects.toThrow('nonsense is no address to listen on');
  });

  it('after closing the port is free, also with a connection kept open', async () => {
    const listener = await health('127.0.0.1:0');
    await get(listener?.port ?? 0, '/healthz');
    await listener?.close();
    expect((await kept(health(`127.0.0.1:${listener?.port}`))).port).toBe(listener?.port);
  });
});
