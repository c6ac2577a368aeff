import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { ConfigurationError } from '../errors.ts';
import type { Metrics } from './metrics.ts';

export interface Listener {
  readonly port: number;
  close(): Promise<void>;
}

/** `/healthz` and `/readyz`; the body of a 503 says why. null: off. */
export function serveHealth({
  bindAddress,
  isAlive,
  whyNotReady,
}: {
  bindAddress: string;
  isAlive: () => boolean;
  whyNotReady: () => string | null;
}): Promise<Listener | null> {
  const answers = new Map<string, () => string | null>([
    ['/healthz', () => (isAlive() ? null : 'not alive: the event loop or a worker is stuck')],
    ['/readyz', whyNotReady],
  ]);
  return serve(bindAddress, ({ url }, response) => {
    const whyNot = answers.get(pathOf(url));
    if (!whyNot) return answer(response, 404, 'not found: /healthz, /readyz');
    const reason = whyNot();
    answer(response, reason === null ? 200 : 503, reason ?? 'ok');
  });
}

/** `/metrics`. null: off. */
export function serveMetrics({
  bindAddress,
  metrics,
}: {
  bindAddress: string;
  metrics: Pick<Metrics, 'scrape' | 'registry'>;
}): Promise<Listener | null> {
  return serve(bindAddress, ({ url }, response) => {
    if (pathOf(url) !== '/metrics') return answer(response, 404, 'not found: /metrics');
    response.setHeader('content-type', metrics.registry.contentType);
    metrics.scrape().then(
      (text) => answer(response, 200, text),
      () => answer(response, 500, 'the metrics could not be read'),
    );
  });
}

// Probes and scrapes are short; whoever holds a connection open for longer is neither.
const TIMEOUT_MS = 5000;

async function serve(bindAddress: string, listener: RequestListener): Promise<Listener | null> {
  if (bindAddress === '0') return null;
  const server = createServer(
    { requestTimeout: TIMEOUT_MS, headersTimeout: TIMEOUT_MS, keepAliveTimeout: TIMEOUT_MS },
    (request, response) => {
      if (request.method === 'GET' || request.method === 'HEAD') listener(request, response);
      else answer(response, 405, 'GET only');
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      reject(
        new ConfigurationError('BindFailed', `cannot listen on ${bindAddress}: ${cause.code ?? 'failed'}`, { cause }),
      );
    });
    server.listen(hostAndPort(bindAddress), resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

// Without a host Node listens on `::` for both families, or on 0.0.0.0 where the machine has no IPv6.
function hostAndPort(bindAddress: string): { host?: string; port: number } {
  const [, host = '', port] = /^(.*):([0-9]+)$/.exec(bindAddress) ?? [];
  if (port === undefined) {
    throw new ConfigurationError(
      'InvalidOption',
      `${bindAddress} is no address to listen on: [HOST]:PORT, or 0 for off`,
    );
  }
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  return { port: Number(port), ...(bare !== '' && { host: bare }) };
}

function answer(response: ServerResponse, status: number, text: string): void {
  if (!response.hasHeader('content-type')) response.setHeader('content-type', 'text/plain; charset=utf-8');
  response.statusCode = status;
  response.end(text.endsWith('\n') ? text : `${text}\n`);
}

function pathOf(url: string | undefined): string {
  return url?.split('?', 1)[0] ?? '';
}
