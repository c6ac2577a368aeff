import { expect, test } from 'vitest';
import { apiVersion, kind, resourcesPath } from '../../src/api/groupVersion.ts';
import { startSandbox } from './sandbox.ts';

test('the custom resource is served, defaulted and validated', async () => {
  await using sandbox = await startSandbox();
  const { admin } = sandbox.api;
  const made = admin.create({
    ...{ apiVersion, kind, metadata: { name: 'production' } },
    spec: { registries: [{ host: 'public.ecr.aws' }], namespaces: {} },
  });
  expect(made['spec']).toMatchObject({ suspend: false, serviceAccounts: { names: ['default'] } });
  expect(made.metadata.generation).toBe(1);
  admin.merge(`${resourcesPath}/production/status`, { status: { registryCount: 1 }, spec: { suspend: true } });
  expect(admin.get(`${resourcesPath}/production`)).toMatchObject({
    metadata: { generation: 1 },
    spec: { suspend: false },
    status: { registryCount: 1 },
  });
});
