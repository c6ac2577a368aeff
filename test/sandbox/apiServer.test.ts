import { expect, test } from 'vitest';
import { ApiServer } from './apiServer.ts';

test('a namespace gets its default ServiceAccount a moment later', async () => {
  await using api = await ApiServer.start();
  api.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team' } });
  expect(api.admin.find('/api/v1/namespaces/team/serviceaccounts/default')).toBeNull();
  await expect.poll(() => api.admin.find('/api/v1/namespaces/team/serviceaccounts/default')).toBeTruthy();
});
