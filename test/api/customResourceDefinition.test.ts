import { describe, expect, it } from 'vitest';

import { crd } from '../../src/api/clusterEcrPullSecret.ts';
import { crdName } from '../../src/api/groupVersion.ts';

type Schema = { [key: string]: unknown; type?: string; properties?: Record<string, Schema>; items?: Schema };

const definition = crd() as {
  metadata: { name: string };
  spec: { versions: { schema: { openAPIV3Schema: Schema } }[] };
};
const root = definition.spec.versions[0]!.schema.openAPIV3Schema;

function all(schema: Schema, path: string): [path: string, schema: Schema][] {
  return [
    [path, schema],
    ...Object.entries(schema.properties ?? {}).flatMap(([name, field]) => all(field, `${path}.${name}`)),
    ...(schema.items ? all(schema.items, `${path}[]`) : []),
    ...(schema.additionalProperties ? all(schema.additionalProperties as Schema, `${path}{}`) : []),
  ];
}

const spec = all(root.properties!.spec!, 'spec');
const everything = [...spec, ...all(root.properties!.status!, 'status')];

it('is named as the API server wants it', () => {
  expect(definition.metadata.name).toBe(crdName);
});

describe('structural schema', () => {
  it('has nothing that structural schemas refuse', () => {
    const refused = ['anyOf', 'oneOf', 'allOf', 'not', '$ref', '$schema', 'propertyNames', 'nullable', 'const'];
    for (const [path, schema] of everything) {
      expect([path, refused.filter((key) => key in schema)]).toEqual([path, []]);
      expect([path, schema.additionalProperties]).not.toEqual([path, false]);
    }
  });

  it('has no leftovers of the range of safe integers', () => {
    expect(JSON.stringify(definition)).not.toContain('9007199254740991');
  });

  it('every field has a type, and a description for kubectl explain', () => {
    const named = everything.filter(([path]) => !path.endsWith('[]') && !path.endsWith('{}'));
    expect(named.filter(([, schema]) => !schema.description).map(([path]) => path)).toEqual([]);
    expect(everything.filter(([, schema]) => !schema.type).map(([path]) => path)).toEqual([]);
  });

  it('every text, list and map has a bound, or the cost of a rule has none', () => {
    const bound = new Map([
      ['string', 'maxLength'],
      ['array', 'maxItems'],
    ]);
    const unbounded = everything.filter(([, schema]) => {
      const key = schema.additionalProperties ? 'maxProperties' : bound.get(schema.type ?? '');
      return key !== undefined && !(key in schema) && !('enum' in schema) && schema.format !== 'date-time';
    });
    expect(unbounded.map(([path]) => path)).toEqual([]);
  });

  it('lists say how they are merged', () => {
    const lists = everything.filter(([, schema]) => schema.type === 'array');
    expect(lists.filter(([, schema]) => !schema['x-kubernetes-list-type']).map(([path]) => path)).toEqual([]);
  });

  it('only what has no default is required', () => {
    const required = everything
      .filter(([, schema]) => schema.required)
      .map(([path, schema]) => [path, schema.required]);
    expect(Object.fromEntries(required)).toMatchObject({
      spec: ['registries', 'namespaces'],
      'spec.registries[]': ['host'],
      'spec.credentials.accessKeySecretRef': ['name'],
    });
  });

  it('lets unknown sources through to the operator, which then holds the resource', () => {
    const open = everything.filter(([, schema]) => schema['x-kubernetes-preserve-unknown-fields']);
    expect(open.map(([path]) => path)).toEqual(['spec.credentials']);
  });
});

it('a default stands under a parent that has one, else it would never be applied', () => {
  const defaulted = spec.filter(([, schema]) => 'default' in schema).map(([path]) => path);
  const parents = defaulted.map((path) => path.slice(0, path.lastIndexOf('.'))).filter((path) => path !== 'spec');
  const required = ['spec.namespaces'];
  expect(parents.filter((path) => !defaulted.includes(path) && !required.includes(path))).toEqual([]);
});
