import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { request, type Dispatcher } from 'undici';
import { eventually } from './eventually.ts';
import { freePort } from './freePort.ts';
import type { ProcessLedger } from './processLedger.ts';
import { digest, type StaticImage } from './staticImage.ts';

/** Starts Debian's docker-registry without a password, on loopback; its URL. What guards it is the door. */
export async function startRegistry(ledger: ProcessLedger): Promise<string> {
  const port = await freePort();
  const dir = join(ledger.dir, `registry-${port}`);
  mkdirSync(dir);
  const config = {
    version: 0.1,
    log: { level: 'warn', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: dir } },
    http: { addr: `127.0.0.1:${port}` },
  };
  writeFileSync(`${dir}.yaml`, JSON.stringify(config));
  const registry = ledger.start(`registry-${port}`, 'docker-registry', ['serve', `${dir}.yaml`]);
  const url = `http://127.0.0.1:${port}`;
  await eventually(`the registry answers (see ${registry.logFile})`, async () => {
    if (!registry.isRunning()) throw new Error('docker-registry has ended');
    return (await send('GET', `${url}/v2/`)).status === 200;
  });
  return url;
}

/** Pushes as a client does: the blobs, then the manifest. */
export async function pushImage(url: string, repository: string, tag: string, image: StaticImage): Promise<void> {
  for (const blob of [image.layer, image.config]) {
    const { location } = await accepted('POST', `${url}/v2/${repository}/blobs/uploads/`);
    const upload = new URL(location ?? '', url);
    upload.searchParams.set('digest', digest(blob));
    await accepted('PUT', upload.href, blob, 'application/octet-stream');
  }
  await accepted('PUT', `${url}/v2/${repository}/manifests/${tag}`, image.manifest, image.manifestType);
}

async function accepted(method: Dispatcher.HttpMethod, url: string, body?: Buffer, type?: string) {
  const answer = await send(method, url, body, type);
  if (answer.status >= 300) throw new Error(`${method} ${url}: ${answer.status} ${answer.text}`);
  return answer;
}

async function send(method: Dispatcher.HttpMethod, url: string, body?: Buffer, type?: string) {
  const headers = type === undefined ? {} : { 'content-type': type };
  const answer = await request(url, { method, headers, body: body ?? null });
  const location = answer.headers['location'];
  return { status: answer.statusCode, location: location?.toString(), text: await answer.body.text() };
}
