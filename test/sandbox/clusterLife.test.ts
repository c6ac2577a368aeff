import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { crd } from '../../src/api/clusterEcrPullSecret.ts';
import { apiVersion, crdName, kind, resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { ApiServer } from './apiServer.ts';
import { LocalFailure, type LocalClient, type Manifest } from './localClient.ts';
import type { Change } from './objectStore.ts';

let api: ApiServer;
let admin: LocalClient;
beforeEach(async () => {
  api = await ApiServer.start();
  admin = api.admin;
  admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team' } });
  await eventually('it has its ServiceAccount', () => admin.find('/api/v1/namespaces/team/serviceaccounts/default'));
});
afterEach(() => api.close());

const secret: Manifest = {
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 'x', namespace: 'team' },
  type: 'Opaque',
};

function refusal(fn: () => unknown): LocalFailure | null {
  try {
    fn();
    return null;
  } catch (error) {
    return error instanceof LocalFailure ? error : null;
  }
}

describe('namespaces', () => {
  it('a default ServiceAccount that is deleted is made again, without a list', async () => {
    const path = '/api/v1/namespaces/team/serviceaccounts/default';
    const { uid } = admin.merge(path, { imagePullSecrets: [{ name: 'x' }] }).metadata;
    admin.delete(path);
    const again = await eventually('it is made again', () => admin.find(path));
    expect(again.metadata.uid).not.toBe(uid);
    expect(again['imagePullSecrets']).toBeUndefined();
  });

  it('a deleted one is terminating first: nothing new is taken, what is there can be written, then all is gone', async () => {
    admin.create(secret);
    api.pace = { ...api.pace, namespaceDeletionMs: 100 };
    admin.delete('/api/v1/namespaces/team');
    expect(admin.get('/api/v1/namespaces/team').metadata.deletionTimestamp).toBeDefined();
    const refused = refusal(() => admin.create({ ...secret, metadata: { name: 'y', namespace: 'team' } }));
    expect(refused).toMatchObject({ code: 403, status: { details: { causes: [{ reason: 'NamespaceTerminating' }] } } });
    expect(admin.merge('/api/v1/namespaces/team/secrets/x', { data: { k: 'YQ==' } })['data']).toEqual({ k: 'YQ==' });
    const order: string[] = [];
    api.store.subscribe((change: Change) => void (change.type === 'DELETED' && order.push(change.of)));
    await eventually('it is gone', () => admin.find('/api/v1/namespaces/team') === null);
    expect(order.at(-1)).toBe('namespaces');
    expect(order).toContain('secrets');
    expect(refusal(() => admin.create(secret))).toMatchObject({ code: 404 });
  });
});

describe('a CustomResourceDefinition', () => {
  const resource: Manifest = {
    apiVersion,
    kind,
    metadata: { name: 'p' },
    spec: { registries: [{ host: 'public.ecr.aws' }], namespaces: {} },
  };
  const crdPath = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${crdName}`;

  it('makes its resource served and is established; without it the path is not there', async () => {
    expect(refusal(() => admin.list(resourcesPath))).toMatchObject({ code: 404 });
    admin.apply(crd() as Manifest);
    expect(admin.list(resourcesPath)).toEqual([]);
    await eventually('it is established', () => JSON.stringify(admin.get(crdPath)['status']).includes('Established'));
  });

  it('that is deleted takes its resources with it first; back again, it has another uid and none of them', async () => {
    admin.apply(crd() as Manifest);
    admin.create(resource);
    const { uid } = admin.get(crdPath).metadata;
    const order: string[] = [];
    api.store.subscribe(
      ({ type, of, object }) =>
        void order.push(`${type} ${of}${object.metadata.deletionTimestamp ? ' terminating' : ''}`),
    );
    admin.delete(crdPath);
    await eventually('it is gone', () => admin.find(crdPath) === null);
    // A real one, too, writes its end down twice.
    expect([...new Set(order)]).toEqual([
      'MODIFIED customresourcedefinitions.apiextensions.k8s.io terminating',
      `DELETED ${crdName}`,
      'DELETED customresourcedefinitions.apiextensions.k8s.io terminating',
    ]);
    expect(refusal(() => admin.list(resourcesPath))).toMatchObject({ code: 404 });
    admin.apply(crd() as Manifest);
    expect(admin.list(resourcesPath)).toEqual([]);
    expect(admin.get(crdPath).metadata.uid).not.toBe(uid);
  });

  it('a spec of the wrong shape is refused with the field, and generation counts specs alone', () => {
    admin.apply(crd() as Manifest);
    const wrong = refusal(() => admin.create({ ...resource, spec: { registries: 'x', namespaces: {} } }));
    const causes = [{ field: 'spec.registries' }, { field: '<nil>' }]; // the second: rules that were not tried
    expect(wrong).toMatchObject({ code: 422, status: { details: { causes } } });
    admin.create(resource);
    const path = `${resourcesPath}/p`;
    expect(admin.merge(path, { metadata: { annotations: { a: 'b' } }, status: { registryCount: 9 } })).toMatchObject({
      metadata: { generation: 1 },
    });
    expect(admin.get(path)['status']).toBeUndefined();
    expect(admin.merge(`${path}/status`, { status: { registryCount: 1 } }).metadata.generation).toBe(1);
    expect(admin.merge(path, { spec: { suspend: true } }).metadata.generation).toBe(2);
    expect(admin.get(path)['status']).toEqual({ registryCount: 1 });
  });

  it('a status is written whatever uid the patch names', () => {
    admin.apply(crd() as Manifest);
    admin.create(resource);
    const uid = '00000000-0000-0000-0000-000000000000';
    const written = admin.merge(`${resourcesPath}/p/status`, { metadata: { uid }, status: { registryCount: 1 } });
    expect(written.metadata.uid).not.toBe(uid);
    expect(written['status']).toEqual({ registryCount: 1 });
  });

  it('that is new answers 429 for a while, if told to', async () => {
    api.pace = { ...api.pace, crdInitialisingMs: 50 };
    admin.apply(crd() as Manifest);
    expect(refusal(() => admin.list(resourcesPath))).toMatchObject({ code: 429 });
    await expect.poll(() => admin.find(`${resourcesPath}/p`), { interval: 10 }).toBeNull();
  });
});

it('a thousand namespaces with a Secret and an entry each are written within the time of a test', () => {
  for (let index = 0; index < 1000; index++) {
    const name = `n${index}`;
    admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    admin.apply({ ...secret, metadata: { name: 'x', namespace: name } });
  }
  expect(admin.list('/api/v1/secrets')).toHaveLength(1000);
});
