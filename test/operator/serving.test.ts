import { describe, expect, it } from 'vitest';
import { annotations, labels } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { type Manifest } from '../sandbox/localClient.ts';
import { host, staysSo, startWorld } from './world.ts';

describe.concurrent('serving namespaces', () => {
  it('pods pull in every selected namespace, with one call to AWS and two writes each', async () => {
    await using w = await startWorld();
    w.createNamespace('other');
    expect(await w.pull('team-a')).toMatchObject({
      ok: false,
      message: expect.stringContaining('no basic auth') as string,
    });
    await w.operator();
    const mark = w.api.audit.mark();
    w.apply();
    await w.served('team-a', 'team-b');
    await w.ready();
    expect(await w.pull('team-a')).toMatchObject({ ok: true });
    expect(await w.pull('team-b')).toMatchObject({ ok: true });
    expect(w.isServed('other')).toBe(false);
    expect(w.auths('team-a')).toEqual(w.auths('team-b'));
    expect(Object.keys(w.auths('team-a'))).toEqual([host]);
    expect(w.tokenCalls()).toBe(1);
    const writes = w.api.audit.since(mark).fanOutWrites({ user: w.sandbox.operatorUser });
    expect(writes.filter(({ namespace }) => namespace.startsWith('team-'))).toHaveLength(4);
    expect(w.resource().status).toMatchObject({ namespacesReady: '2/2', expiresAt: expect.any(String) as string });
  });

  it('a namespace and a ServiceAccount that come later get theirs, and nobody else loses an entry', async () => {
    await using w = await startWorld();
    await w.operator();
    w.apply({ serviceAccounts: { names: ['default', 'app-*'] } });
    await w.served('team-a');
    w.createNamespace('team-late');
    await w.served('team-late');
    w.admin.create({
      ...{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'app-1', namespace: 'team-a' } },
      imagePullSecrets: [{ name: 'own' }],
    });
    await eventually('app-1 has its entry', () => w.entries('team-a', 'app-1').includes('ecr-pull'));
    expect(w.entries('team-a', 'app-1')).toEqual(['own', 'ecr-pull']);
    expect(w.tokenCalls()).toBe(1);
  });

  it('two hundred namespaces cost one call, and two writes each', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `team-${index}`);
    await using w = await startWorld({ namespaces: names });
    await eventually('the ServiceAccounts are made', () =>
      names.every((name) => w.admin.find(`/api/v1/namespaces/${name}/serviceaccounts/default`)),
    );
    await w.operator();
    const mark = w.api.audit.mark();
    w.apply();
    await eventually('all are served', () => names.every((name) => w.isServed(name)));
    await w.ready();
    const writes = w.api.audit.since(mark).fanOutWrites({ user: w.sandbox.operatorUser });
    expect(writes.filter(({ namespace }) => namespace.startsWith('team-'))).toHaveLength(400);
    expect(w.tokenCalls()).toBe(1);
  });

  it('an annotation keeps a namespace out, and takes out what was there', async () => {
    await using w = await startWorld({ namespaces: ['team-a'] });
    await w.operator({ args: ['--removal-delay=50ms'] });
    w.createNamespace('team-out', { annotations: { [annotations.ignore]: 'true' } });
    w.apply();
    await w.served('team-a');
    expect(w.isServed('team-out')).toBe(false);
    w.admin.merge('/api/v1/namespaces/team-a', { metadata: { annotations: { [annotations.ignore]: 'true' } } });
    await eventually('nothing of ours is left', () => w.secret('team-a') === null && w.entries('team-a').length === 0);
  });

  it('keys from a Secret: what is missing is named, and their arrival is enough', async () => {
    await using w = await startWorld();
    await w.operator();
    w.apply({ credentials: { accessKeySecretRef: { name: 'aws-credentials' } } });
    const condition = await eventually('it says what is missing', () => {
      const ready = w.condition('Ready');
      return ready?.status === 'False' ? ready : null;
    });
    expect(condition.message).toContain('Secret ecr-pull-secrets/aws-credentials does not exist');
    w.admin.create({
      ...{ apiVersion: 'v1', kind: 'Secret', type: 'Opaque' },
      metadata: { name: 'aws-credentials', namespace: w.sandbox.namespace },
      data: {
        AWS_ACCESS_KEY_ID: Buffer.from('AKIAFROMSECRET\n').toString('base64'),
        AWS_SECRET_ACCESS_KEY: Buffer.from(' key ').toString('base64'),
      },
    });
    await w.served('team-a', 'team-b');
    expect(w.sandbox.aws.calls.map(({ accessKeyId }) => accessKeyId)).toEqual(['AKIAFROMSECRET']);
  });
});

describe.concurrent("what is somebody else's", () => {
  const foreign: Manifest = {
    ...{ apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/dockerconfigjson' },
    metadata: { name: 'ecr-pull', namespace: 'team-a' },
    data: { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') },
  };

  const startBlocked = async () => {
    const w = await startWorld();
    w.admin.create(foreign);
    await w.operator();
    w.apply();
    await w.served('team-b');
    await eventually('it is told', () => w.condition('Blocked')?.status === 'True');
    return w;
  };

  it('in a namespace that is no longer selected is told no more', async () => {
    await using w = await startBlocked();
    await staysSo(3_000, () => true); // what was scheduled at the start is over
    w.admin.merge('/api/v1/namespaces/team-a', { metadata: { annotations: { [annotations.ignore]: 'true' } } });
    await eventually('it is told no more', () => w.condition('Blocked') === undefined);
    expect(w.resource().status?.namespacesReady).toBe('1/1');
  });

  it('a Secret of our name stays, is told, and is taken over by one label', async () => {
    await using w = await startBlocked();
    await w.ready(); // one tenant holds nobody up
    // It may bear that label with another value, such as Helm's.
    expect(w.condition('Blocked')?.message).toContain(
      'kubectl -n team-a label --overwrite secret ecr-pull app.kubernetes.io/managed-by=ecr-pull-secrets (',
    );
    expect(w.auths('team-a')).toEqual({});
    expect(w.entries('team-a')).toEqual([]);
    w.admin.merge('/api/v1/namespaces/team-a/secrets/ecr-pull', {
      metadata: { labels: { [labels.managedBy]: 'ecr-pull-secrets' } },
    });
    await w.served('team-a');
    await eventually('the condition is gone', () => w.condition('Blocked') === undefined);
    expect(Object.keys(w.auths('team-a'))).toEqual([host]);
  });
});
