import { Agent, ProxyAgent } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkRegistry } from '../../src/aws/registryCheck.ts';
import { createAuthority, loopbackNames, type Authority } from './certificate.ts';
import { HostProxy } from './hostProxy.ts';
import { IssuedTokens } from './issuedTokens.ts';
import { pullImage } from './pull.ts';
import { SandboxRegistry } from './registry.ts';

const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
const authority: Authority = createAuthority();

let now: number;
let tokens: IssuedTokens;
let registry: SandboxRegistry;
beforeEach(async () => {
  now = 0;
  tokens = new IssuedTokens(() => now);
  registry = await SandboxRegistry.start({
    certificate: authority.issue(loopbackNames(host)),
    stateOf: (auth) => tokens.stateOf(auth),
  });
});
afterEach(() => registry.down());

function issue(lifeMs = 1000): string {
  return tokens.issue({ service: 'ecr', region: 'us-east-1', accessKeyId: 'A', account: '1', lifeMs }).auth;
}

function pull(auths: object, o: { image?: string; ca?: string; portOf?: (host: string) => number | null } = {}) {
  return pullImage({
    ...{ image: `${host}/team/app:1`, ca: authority.ca, portOf: () => registry.port },
    ...{ dockerConfigs: [JSON.stringify({ auths })], ...o },
  });
}

describe('a pull', () => {
  it('with a live token gets manifest, config and layer, each at the door with it', async () => {
    const result = await pull({ [host]: { auth: issue() } });
    expect(result).toMatchObject({ ok: true });
    expect(registry.visits.map(({ path }) => path.split('/')[4])).toEqual(['manifests', 'blobs', 'blobs']);
    expect(registry.visits).toEqual(
      registry.visits.map((visit) => ({ ...visit, host, method: 'GET', shown: 'live', status: 200 })),
    );
  });

  it('with none is told to log in', async () => {
    expect(await pull({})).toEqual({
      ok: false,
      reason: 'ErrImagePull',
      message: expect.stringContaining('no basic auth credentials') as string,
    });
    expect(registry.visits).toMatchObject([{ shown: 'none', status: 401 }]);
  });

  it('with an expired one is told so', async () => {
    const auth = issue();
    now = 1000;
    expect(await pull({ [host]: { auth } })).toMatchObject({
      message: expect.stringContaining(
        '403 Forbidden: denied: Your authorization token has expired. Reauthenticate and try again.',
      ) as string,
    });
    expect([registry.count('expired'), registry.count('live')]).toEqual([1, 0]);
  });

  it('with one that is none of ours is as without', async () => {
    expect(await pull({ [host]: { auth: 'QVdTOng=' } })).toMatchObject({ ok: false });
    expect(registry.visits).toMatchObject([{ shown: 'unknown', status: 401 }]);
  });

  it('goes on with the next credential that matches', async () => {
    const image = `${host}/team/app:1`;
    const result = await pull({ [`${host}/team`]: { auth: 'QVdTOng=' }, [host]: { auth: issue() } }, { image });
    expect(result.ok).toBe(true);
    expect(registry.visits.map(({ shown }) => shown)).toEqual(['unknown', 'live', 'live', 'live']);
  });

  it('is refused where the identity may not pull, though the token is good', async () => {
    registry.deniesPulls = true;
    expect(await pull({ [host]: { auth: issue() } })).toMatchObject({
      message: expect.stringContaining('not authorized to perform: ecr:BatchGetImage') as string,
    });
  });

  it.each([
    ['an authority that is not trusted', { ca: createAuthority().ca }, /unable to verify/],
    ['a name that nobody knows', { portOf: () => null }, /no such host/],
    ['an image without a host', { image: 'app' }, /couldn't parse image name/],
  ])('%s is an error, not a crash', async (_, o, message) => {
    expect(await pull({ [host]: { auth: issue() } }, o)).toMatchObject({
      ok: false,
      message: expect.stringMatching(message) as string,
    });
  });

  it('a registry that is down refuses connections, and is back on its port', async () => {
    const { port } = registry;
    await registry.down();
    expect(await pull({ [host]: { auth: issue() } })).toMatchObject({
      message: expect.stringContaining('ECONNREFUSED') as string,
    });
    await registry.up();
    expect(registry.port).toBe(port);
    expect(await pull({ [host]: { auth: issue() } })).toMatchObject({ ok: true });
  });
});

describe('the public registry', () => {
  const publicImage = 'public.ecr.aws/team/app:1';
  const publicAuthority = createAuthority();
  const publicPull = (auths: object) =>
    pull(auths, { image: publicImage, ca: publicAuthority.ca, portOf: () => registry.port });
  beforeEach(async () => {
    await registry.down();
    const certificate = publicAuthority.issue(['public.ecr.aws']);
    registry = await SandboxRegistry.start({ certificate, stateOf: (auth) => tokens.stateOf(auth) });
  });

  it('gives a bearer token for a token, and to who shows none', async () => {
    expect(await publicPull({ 'public.ecr.aws': { auth: issue() } })).toMatchObject({ ok: true });
    expect(await publicPull({})).toMatchObject({ ok: true });
    expect(registry.visits.map(({ path }) => path.split('/')[1])).toEqual([
      'v2',
      'token',
      'v2',
      'v2',
      'v2',
      'v2',
      'token',
      'v2',
      'v2',
      'v2',
    ]);
  });

  it('an expired token breaks what would work without any', async () => {
    const auth = issue();
    now = 1000;
    expect(await publicPull({ 'public.ecr.aws': { auth } })).toMatchObject({
      message: expect.stringContaining('failed to fetch oauth token') as string,
    });
  });

  it("the operator's check follows its challenge", async () => {
    const proxy = await HostProxy.start(() => registry.port);
    const dispatcher = new ProxyAgent({ uri: proxy.url, requestTls: { ca: publicAuthority.ca } });
    const check = { host: 'public.ecr.aws', auth: issue(), dispatcher, signal: AbortSignal.timeout(5000) };
    expect(await checkRegistry(check)).toEqual({ verdict: 'accepted' });
    now = 1000;
    expect(await checkRegistry(check)).toMatchObject({ verdict: 'refused' });
    await dispatcher.destroy();
    await proxy.close();
  });
});

describe("the operator's check, through the proxy that leads a registry's name here", () => {
  it.each([
    ['live', 'accepted'],
    ['expired', 'refused'],
    ['unknown', 'refused'],
  ])('%s: %s', async (state, verdict) => {
    const proxy = await HostProxy.start((name) => (name === host ? registry.port : null));
    const dispatcher = new ProxyAgent({ uri: proxy.url, requestTls: { ca: authority.ca } });
    const auth = state === 'unknown' ? 'QVdTOng=' : issue();
    if (state === 'expired') now = 1000;
    const check = { auth, dispatcher, signal: AbortSignal.timeout(5000) };
    expect(await checkRegistry({ ...check, host })).toMatchObject({ verdict });
    expect(await checkRegistry({ ...check, host: 'other.example' })).toMatchObject({ verdict: 'unreachable' });
    expect(proxy.asked).toEqual([`${host}:443`, 'other.example:443']);
    await dispatcher.destroy();
    await proxy.close();
  });

  it('goes nowhere without it', async () => {
    const check = { host: 'ecr.invalid', auth: issue(), dispatcher: new Agent(), signal: AbortSignal.timeout(5000) };
    expect(await checkRegistry(check)).toMatchObject({ verdict: 'unreachable' });
  });
});
