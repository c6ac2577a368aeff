import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createAuthority, loopbackNames } from './certificate.ts';
import { IssuedTokens } from './issuedTokens.ts';
import { LoopbackServer } from './loopbackServer.ts';
import { createPod, type PodSpec } from './podPull.ts';
import { SandboxRegistry } from './registry.ts';

const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
const authority = createAuthority();
const tokens = new IssuedTokens(() => Date.now());

// As much of an API server as a kubelet asks: objects by their paths.
const objects = new Map<string, object>();
let api: LoopbackServer;
let registry: SandboxRegistry;
beforeEach(async () => {
  objects.clear();
  api = await LoopbackServer.start((request: IncomingMessage, response: ServerResponse) => {
    const object = request.headers.authorization === 'Bearer kubelet' ? objects.get(request.url ?? '') : undefined;
    response.writeHead(object ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(object ?? {}));
  });
  const certificate = authority.issue(loopbackNames(host));
  registry = await SandboxRegistry.start({ certificate, stateOf: (auth) => tokens.stateOf(auth) });
});
afterEach(async () => {
  await api.down();
  await registry.down();
});

function spec(o: Partial<PodSpec> = {}): PodSpec {
  return {
    ...{ api: { url: api.url, token: 'kubelet' }, namespace: 'apps', image: `${host}/app:1`, ca: authority.ca },
    portOf: (name) => (name === host ? registry.port : null),
    ...o,
  };
}

function putServiceAccount(name: string, ...secrets: string[]): void {
  const imagePullSecrets = secrets.map((name) => ({ name }));
  objects.set(`/api/v1/namespaces/apps/serviceaccounts/${name}`, { metadata: { name }, imagePullSecrets });
}

function putSecret(name: string, type = 'kubernetes.io/dockerconfigjson'): void {
  const { auth } = tokens.issue({
    service: 'ecr',
    region: 'us-east-1',
    accessKeyId: 'A',
    account: '1',
    lifeMs: 60_000,
  });
  const text = JSON.stringify({ auths: { [host]: { auth } } });
  const data = { '.dockerconfigjson': Buffer.from(text).toString('base64') };
  objects.set(`/api/v1/namespaces/apps/secrets/${name}`, { metadata: { name }, type, data });
}

describe('a pod that pulls', () => {
  it('the names of the ServiceAccount are copied once, its Secrets are read at each attempt', async () => {
    putServiceAccount('default', 'ecr-pull');
    const pod = await createPod(spec());
    putServiceAccount('default');
    expect(await pod.attempt()).toMatchObject({ ok: false });
    putSecret('ecr-pull');
    expect(await pod.attempt()).toMatchObject({ ok: true });
    expect((await createPod(spec())).imagePullSecrets).toEqual([]);
  });

  it("its own pull secrets displace the ServiceAccount's", async () => {
    putServiceAccount('default', 'ecr-pull');
    putSecret('ecr-pull');
    const pod = await createPod(spec({ imagePullSecrets: ['own'] }));
    expect(pod.imagePullSecrets).toEqual(['own']);
    expect(await pod.attempt()).toMatchObject({ ok: false });
  });

  it('a Secret of another type is passed over', async () => {
    putServiceAccount('builder', 'ecr-pull');
    putSecret('ecr-pull', 'Opaque');
    const pod = await createPod(spec({ serviceAccount: 'builder' }));
    expect(await pod.attempt()).toMatchObject({
      ok: false,
      message: expect.stringContaining('no basic auth') as string,
    });
  });

  it('a default ServiceAccount that is not there yet is waited for, another one is not', async () => {
    const creation = createPod(spec());
    putServiceAccount('default', 'ecr-pull');
    expect((await creation).imagePullSecrets).toEqual(['ecr-pull']);
    await expect(createPod(spec({ serviceAccount: 'none' }))).rejects.toThrow(
      'error looking up service account apps/none',
    );
  });
});
