import { expect, it } from 'vitest';
import { annotations } from '../../src/api/groupVersion.ts';
import { reduceSecret } from '../../src/controller/observedObjects.ts';
import { diffNamespace } from '../../src/core/diffNamespace.ts';
import { dockerConfigJson, parseDockerConfigJson } from '../../src/core/dockerConfig.ts';
import { planNamespace } from '../../src/core/planNamespace.ts';
import { after, namespace, observed, resource, resources, serviceAccount, usable } from './namespaceWorld.ts';

// What the API server would never let through as a name of this or that is tried all the same: the decisions look names
// up in maps, and nothing of an object's prototype is ever one.
const odd = ['constructor', '__proto__', 'toString', 'hasOwnProperty', 'x'.repeat(253)];

it.each(odd)('%s as the name of everything is planned, served, left alone and removed', (name) => {
  const world = resources(
    resource({
      name,
      namespaces: { names: [name], selector: { matchLabels: { [name]: name } } },
      serviceAccounts: { names: [name], exclude: odd.filter((other) => other !== name) },
      registries: [{ host: name, allowsAnonymousPulls: false }],
    }),
  );
  const labels = JSON.parse(`{${JSON.stringify(name)}: ${JSON.stringify(name)}}`) as Record<string, string>;
  const seen = namespace({ name, labels });
  const secretName = name;
  const accounts = odd.map((other) => serviceAccount(other, ['__proto__ of somebody else']));
  const diff = (of: typeof world, found: ReturnType<typeof observed>) =>
    diffNamespace(
      planNamespace(seen, of, () => usable('t1')),
      found,
      { secretName, mayRemove: true },
    );
  const first = diff(world, observed({ serviceAccounts: accounts }));
  expect(first.writes.map(({ kind }) => kind)).toEqual(['ApplySecret', 'AddEntry']);
  expect(first.writes).toMatchObject([{ entries: new Map([[name, { auth: 't1' }]]) }, { serviceAccount: { name } }]);

  const plan = planNamespace(namespace({ name, labels: {} }), world, () => usable('t1'));
  expect(diffNamespace(plan, observed({ serviceAccounts: accounts }), { secretName, mayRemove: true }).writes).toEqual(
    [],
  );
  const there = after(observed({ serviceAccounts: accounts }), first.writes);
  expect([...(there.secret?.hosts?.keys() ?? [])]).toEqual([name]);
});

it.each(odd)('%s as a host stands in the document, and in the marks of a Secret, as any other', (name) => {
  const entries = new Map([[name, { auth: 'QTpC' }]]);
  expect(parseDockerConfigJson(dockerConfigJson(entries))).toEqual(entries);
  const marks = { [annotations.hosts]: `{${JSON.stringify(name)}:"hash"}`, [annotations.serviceAccounts]: '[]' };
  const { hosts } = reduceSecret({ metadata: { name: 'ecr-pull', annotations: marks } });
  expect(hosts).toEqual(new Map([[name, 'hash']]));
});
