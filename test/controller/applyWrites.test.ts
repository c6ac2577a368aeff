import { expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { applyWrites } from '../../src/controller/applyWrites.ts';
import { reduceSecret, reduceServiceAccount } from '../../src/controller/observedObjects.ts';
import { hashOfEntry } from '../../src/core/dockerConfig.ts';
import { ConflictError } from '../../src/errors.ts';
import { KubeClient } from '../../src/kube/client.ts';
import { connect } from '../../src/kube/connection.ts';
import type { KubeObject } from '../../src/kube/kubeObject.ts';
import { startWorld, type World } from '../operator/world.ts';

const path = '/api/v1/namespaces/team-a/secrets/ecr-pull';
const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

function madeAnew({ admin }: World): void {
  const old = admin.get(path);
  admin.delete(path);
  admin.create({ ...old, metadata: { name: 'ecr-pull', namespace: 'team-a', labels: { whose: 'somebody else' } } });
}

function handedOver({ admin }: World): void {
  admin.merge(path, { metadata: { labels: { 'app.kubernetes.io/managed-by': 'somebody-else' } } }, 'other');
}

// Without the admission policy, which would refuse it as well.
it.each([madeAnew, handedOver])(
  'a Secret is not written to as the one that was seen, when it is no longer that: %o',
  async (change) => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    const operator = await w.operator();
    w.apply();
    await w.served('team-a');
    await operator.stop();
    const observed = reduceSecret(w.admin.get(path) as KubeObject);
    w.api.admission = () => null;
    change(w);
    const before = w.secret('team-a');
    const connection = connect({ kubeconfig: w.sandbox.kubeconfigPath, env: {} });
    const client = new KubeClient({ connection, clock: systemClock, log, metrics: { kubeRequest: () => {} } });
    const auth = Buffer.from('AWS:new').toString('base64');
    const entry = { resource: 'production', auth, hash: hashOfEntry({ auth }) };
    const { errors, written } = await applyWrites(
      [{ kind: 'ApplySecret', observed, entries: new Map([['host', entry]]), keeps: null, patterns: [] }],
      {
        ...{ client, namespace: 'team-a', secretName: 'ecr-pull', beforeSend: () => {}, recreated: () => {} },
        ...{ seen: () => Promise.resolve(), seenGone: () => Promise.resolve() },
      },
    );
    expect(errors).toEqual([expect.any(ConflictError)]);
    expect(written).toBe(0);
    expect(w.secret('team-a')).toEqual(before);
  },
);

it.each([
  { whether: 'somebody has written in between', versions: ['2', '3', '4', '5'], tries: 4 },
  { whether: 'nobody has, and it is refused for another reason', versions: ['1', '1'], tries: 1 },
])('an edit that conflicts, as $whether, is tried $tries times', async ({ versions, tries }) => {
  const account = { metadata: { name: 'default', namespace: 'team-a', uid: 'u', resourceVersion: '1' } } as KubeObject;
  let patches = 0;
  const client = {
    request<T>({ method }: { method: string }): Promise<T> {
      if (method === 'GET') {
        const resourceVersion = versions.shift() ?? '';
        return Promise.resolve({ ...account, metadata: { ...account.metadata, resourceVersion } } as T);
      }
      patches += 1;
      return Promise.reject(new ConflictError('Conflict', 'no'));
    },
  };
  const { errors } = await applyWrites([{ kind: 'AddEntry', serviceAccount: reduceServiceAccount(account) }], {
    ...{ client, namespace: 'team-a', secretName: 'ecr-pull', beforeSend: () => {}, recreated: () => {} },
    ...{ seen: () => Promise.resolve(), seenGone: () => Promise.resolve() },
  });
  expect(errors).toEqual([expect.any(ConflictError)]);
  expect(patches).toBe(tries);
});
