import { describe, expect, it } from 'vitest';
import { annotations, labels, resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { startWorld, type World } from './world.ts';

// Names that mean something to JavaScript, and names as long as they may be, are names like all others.

const longest = (length: number): string => `${'a-'.repeat(length)}z`.slice(-length).replace(/^-/, 'a');
const namespaces = ['constructor', 'tostring', 'valueof', 'hasownproperty', longest(63)];
const accounts = ['constructor', 'valueof', longest(253)];
const hosts = ['constructor:5000', 'tostring.valueof', `${'h'.repeat(63)}.`.repeat(3) + `${'h'.repeat(61)}:65535`];
const region = 'us-east-1';

function keysFor(w: World, name: string, accessKeyId: string): void {
  const keys = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: 'secret-of-the-keys', __proto__x: 'x' };
  const data = Object.entries(keys).map(([key, value]) => [key, Buffer.from(value).toString('base64')]);
  const metadata = { name, namespace: w.sandbox.namespace };
  w.admin.apply({
    ...{ apiVersion: 'v1', kind: 'Secret', type: 'Opaque', metadata },
    // An own key of that name, as JSON has it.
    data: JSON.parse(JSON.stringify(Object.fromEntries(data)).replace('__proto__x', '__proto__')) as object,
  });
}

/** Everything here has such a name: the Secret too. */
async function startOddWorld(): Promise<World> {
  const credentialSecretNames = ['valueof', longest(253)];
  const w = await startWorld({ namespaces: [], secretName: 'constructor', credentialSecretNames });
  for (const name of namespaces) {
    const metadata = {
      labels: { constructor: 'on', 'valueOf/hasOwnProperty': '' },
      annotations: { constructor: 'true', toString: 'true', 'constructor/ignore': 'true' },
    };
    w.createNamespace(name, metadata);
    for (const account of accounts) {
      w.admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: account, namespace: name } });
    }
  }
  for (const [i, name] of credentialSecretNames.entries()) keysFor(w, name, `AKIA${i}`);
  await w.operator({
    args: [
      '--secret-name=constructor',
      `--credential-secret-names=${credentialSecretNames.join(',')}`,
      '--removal-delay=20ms',
    ],
  });
  return w;
}

describe('names as constructor, __proto__ and those of 253 characters', () => {
  it('are served as any other, each with the token of its own identity, and given up again', async () => {
    await using w = await startOddWorld();
    // Left as by an earlier version: its marks name what nobody wants.
    w.admin.create({
      ...{ apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/dockerconfigjson' },
      metadata: {
        ...{ name: 'constructor', namespace: 'valueof', labels: { [labels.managedBy]: 'ecr-pull-secrets' } },
        annotations: {
          [annotations.hosts]: '{"__proto__":"x","constructor":"y"}',
          [annotations.serviceAccounts]: '[{"__proto__":{"names":["*"]},"names":["constructor"],"exclude":[]}]',
        },
      },
      data: { '.dockerconfigjson': Buffer.from('{"auths":{"__proto__":{"auth":"QTpC"}}}').toString('base64') },
    });
    const resources = ['constructor', 'tostring', longest(253)];
    const serviceAccounts = { names: ['default', 'con*', 'valueof', `*${'a-'.repeat(20)}*`] };
    for (const [i, name] of resources.entries()) {
      // `toString` and `valueOf` stand on each object, and are no labels.
      const matchExpressions = [
        { key: 'toString', operator: 'DoesNotExist' },
        { key: 'valueOf', operator: 'NotIn', values: ['x'] },
      ];
      const secretName = ['valueof', longest(253)][i];
      w.apply(
        {
          ...{ registries: [{ host: hosts[i], region }], serviceAccounts, verification: { mode: 'Disabled' } },
          ...(secretName !== undefined && { credentials: { accessKeySecretRef: { name: secretName } } }),
          namespaces: { selector: { matchLabels: { constructor: 'on' }, matchExpressions } },
        },
        name,
      );
    }
    for (const name of resources) await w.ready(name);
    const authsIn = (namespace: string) => {
      const data = w.secret(namespace, 'constructor')?.['data'] as Record<string, string> | undefined;
      const text = Buffer.from(data?.['.dockerconfigjson'] ?? '', 'base64').toString() || '{"auths":{}}';
      return (JSON.parse(text) as { auths: Record<string, { auth: string }> }).auths;
    };
    for (const namespace of namespaces) {
      const auths = authsIn(namespace);
      expect(Object.keys(auths).sort()).toEqual(hosts.toSorted());
      const keys = hosts.map((host) => w.sandbox.aws.tokens.get(auths[host]?.auth ?? '')?.accessKeyId);
      expect(keys).toEqual(['AKIA0', 'AKIA1', 'AKIASANDBOX']);
      for (const account of ['default', ...accounts]) {
        await eventually(`${account} has its entry`, () => w.entries(namespace, account).length > 0);
        expect(w.entries(namespace, account)).toEqual(['constructor']);
      }
    }
    for (const name of resources) expect(w.resource(name).status?.namespacesReady).toBe('5/5');
    expect(w.tokenCalls()).toBe(3);
    await w.quiet();

    for (const name of resources) w.admin.delete(`${resourcesPath}/${name}`);
    for (const namespace of namespaces) {
      await eventually(`${namespace} is empty`, () => w.secret(namespace, 'constructor') === null);
      for (const account of accounts) expect(w.entries(namespace, account)).toEqual([]);
    }
    expect(Reflect.ownKeys(Object.prototype).filter((key) => !STANDARD.includes(key))).toEqual([]);
  });

  it('are told in events whose own names the API server takes', async () => {
    await using w = await startOddWorld();
    const name = `${'a'.repeat(234)}${'-'.repeat(5)}${'.a'.repeat(7)}`;
    w.apply({ registries: [{ host: 'constructor:5000', region }], refresh: { schedule: '0 0 31 2 *' } }, name);
    await eventually('it is told', () => w.condition('Stalled', name));
    const events = await eventually('an event tells it', () => {
      const found = w.admin.list('/apis/events.k8s.io/v1/events');
      return found.length > 0 && found;
    });
    for (const { metadata } of events)
      expect(metadata.name).toMatch(/^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/);
  });
});

const STANDARD = Reflect.ownKeys(Object.prototype);
