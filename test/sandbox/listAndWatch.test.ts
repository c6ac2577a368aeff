import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resourcesPath } from '../../src/api/groupVersion.ts';
import { systemClock } from '../../src/clock.ts';
import { KubeClient } from '../../src/kube/client.ts';
import { connect } from '../../src/kube/connection.ts';
import type { WatchEvent } from '../../src/kube/kubeObject.ts';
import { eventually } from '../cluster/eventually.ts';
import { adminToken } from './apiServer.ts';
import { tooManyRequests } from './faults.ts';
import { startSandbox, type Sandbox } from './sandbox.ts';

// Over HTTP, through the operator's own client.

let sandbox: Sandbox;
let client: KubeClient;
beforeEach(async () => {
  sandbox = await startSandbox({ bookmarkMs: 50 });
  client = clientOf(sandbox.adminKubeconfigPath);
});
afterEach(async () => {
  await client.close();
  await sandbox.close();
});

function clientOf(kubeconfig: string): KubeClient {
  const log = { debug() {}, info() {}, warn() {}, error() {} } as never;
  const metrics = { kubeRequest: () => {} };
  return new KubeClient({ connection: connect({ kubeconfig, env: {} }), clock: systemClock, log, metrics });
}

interface List {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly { readonly metadata: { readonly name: string } }[];
}

const secrets = '/api/v1/secrets';
const byName = { fieldSelector: 'metadata.name=ecr-pull' };

function list(path: string, query: Record<string, string> = {}, metadataOnly = false): Promise<List> {
  return client.request<List>({ method: 'GET', path, query, metadataOnly });
}

/** Collects events until it is stopped, or the stream ends. */
function watch(
  path: string,
  query: Record<string, string>,
): { events: WatchEvent[]; ended: Promise<unknown>; stop(): void } {
  const stopping = new AbortController();
  const events: WatchEvent[] = [];
  const { signal } = stopping;
  const read = async (): Promise<void> => {
    for await (const event of client.watch({ path, query, signal, idleMs: 5000 })) events.push(event);
  };
  const ended = read().catch((error: unknown) => error);
  return { events, ended, stop: () => stopping.abort() };
}

function createSecret(namespace: string, name = 'ecr-pull'): void {
  sandbox.api.admin.create({ apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace }, data: { k: 'YQ==' } });
}

function createNamespace(name: string): void {
  sandbox.api.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
}

describe('lists', () => {
  it('of metadata hold no data, and an empty one has null in the place of its items', async () => {
    const answer = await fetch(`${sandbox.api.url}${secrets}?fieldSelector=metadata.name%3Decr-pull`, {
      headers: {
        authorization: `Bearer ${adminToken}`,
        accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
      },
    });
    expect(await answer.json()).toMatchObject({ kind: 'PartialObjectMetadataList', items: null });
    createSecret('default');
    createSecret('default', 'other');
    const { items } = await list(secrets, byName, true);
    expect(items.map(({ metadata }) => metadata.name)).toEqual(['ecr-pull']);
    expect(JSON.stringify(items)).not.toContain('YQ==');
    expect((await list(resourcesPath)).items).toEqual([]);
  });

  it('come in pages of one moment, whatever is written in between; an old page is 410', async () => {
    for (let index = 0; index < 5; index++) createNamespace(`team-${index}`);
    const first = await list('/api/v1/namespaces', { limit: '3' });
    createNamespace('a-new-one');
    const rest = await list('/api/v1/namespaces', { limit: '300', continue: first.metadata.continue ?? '' });
    const names = [...first.items, ...rest.items].map(({ metadata }) => metadata.name);
    expect(names).toEqual([
      'default',
      'ecr-pull-secrets',
      'kube-system',
      'team-0',
      'team-1',
      'team-2',
      'team-3',
      'team-4',
    ]);
    expect(rest.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
    sandbox.api.store.compact();
    await expect(list('/api/v1/namespaces', { continue: first.metadata.continue ?? '' })).rejects.toMatchObject({
      status: 410,
    });
  });

  it('under the rights of the operator only Secrets of its name may be listed', async () => {
    const operator = clientOf(sandbox.kubeconfigPath);
    const get = { method: 'GET', path: secrets } as const;
    await expect(operator.request(get)).rejects.toMatchObject({ status: 403 });
    await expect(operator.request({ ...get, query: byName, metadataOnly: true })).resolves.toBeDefined();
    await operator.close();
  });
});

describe('watches', () => {
  it('tell what has changed since a version, in order; bookmarks move the version', async () => {
    const { metadata } = await list(secrets, byName);
    createSecret('default');
    createSecret('default', 'other');
    const open = watch(secrets, {
      ...byName,
      resourceVersion: metadata.resourceVersion,
      allowWatchBookmarks: 'true',
    });
    await eventually('the first is there', () => open.events.length > 0);
    sandbox.api.admin.merge('/api/v1/namespaces/default/secrets/ecr-pull', { data: { k: 'Yg==' } });
    sandbox.api.admin.delete('/api/v1/namespaces/default/secrets/ecr-pull');
    await eventually('a bookmark comes', () => open.events.some(({ type }) => type === 'BOOKMARK'));
    const changes = open.events.filter(({ type }) => type !== 'BOOKMARK');
    expect(changes.map(({ type }) => type)).toEqual(['ADDED', 'MODIFIED', 'DELETED']);
    const versions = open.events.map(({ object }) => Number(object.metadata.resourceVersion));
    expect(versions).toEqual(versions.toSorted((a, b) => a - b));
    open.stop();
  });

  it('from a version that is compacted are one ERROR of 410, and end', async () => {
    const { metadata } = await list(secrets, byName);
    createSecret('default');
    sandbox.api.store.compact();
    const { events, ended } = watch(secrets, { ...byName, resourceVersion: metadata.resourceVersion });
    expect(await ended).toBeUndefined();
    expect(events).toMatchObject([{ type: 'ERROR', object: { code: 410, reason: 'Expired' } }]);
  });

  it('end cleanly at their time, when they are cut, and never where they are silenced', async () => {
    const query = { ...byName, resourceVersion: (await list(secrets, byName)).metadata.resourceVersion };
    expect(await watch(secrets, { ...query, timeoutSeconds: '0.1' }).ended).toBeUndefined();
    const cut = watch(secrets, query);
    await eventually('it is open', () => sandbox.api.watches({ of: 'secrets' }).length === 1);
    sandbox.api.cutWatches();
    expect(await cut.ended).toMatchObject({ code: 'Network' });
    await eventually('it is closed', () => sandbox.api.watches().length === 0);
    const silent = watch(secrets, query);
    await eventually('it is open', () => sandbox.api.watches({ of: 'secrets' }).length === 1);
    sandbox.api.silenceWatches();
    createSecret('default');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(silent.events).toEqual([]);
    silent.stop();
  });
});

describe('faults', () => {
  it('429 says when to come back, a token that nobody knows is 401, a server that is stopped is no connection', async () => {
    sandbox.api.faults = () => tooManyRequests(7);
    await expect(list(secrets)).rejects.toMatchObject({ retryAfterMs: 7000 });
    sandbox.api.faults = () => null;
    sandbox.api.users.delete(adminToken);
    await expect(list(secrets)).rejects.toMatchObject({ code: 'Unauthorized' });
    const { port } = sandbox.api;
    await sandbox.api.stop();
    await expect(list(secrets)).rejects.toMatchObject({ code: 'Network' });
    await sandbox.api.restart();
    expect(sandbox.api.port).toBe(port);
  });
});
