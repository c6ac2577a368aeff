import * as z from 'zod';

import { group, version } from './groupVersion.ts';

export interface ResourceDefinition {
  readonly scope: 'Cluster' | 'Namespaced';
  readonly names: {
    readonly kind: string;
    readonly listKind: string;
    readonly plural: string;
    readonly singular: string;
    readonly shortNames: readonly string[];
    readonly categories: readonly string[];
  };
  readonly description: string;
  readonly spec: z.ZodType;
  readonly status: z.ZodType;
}

/** A CustomResourceDefinition with a structural schema, made from zod's. */
export function customResourceDefinition({ scope, names, description, spec, status }: ResourceDefinition): object {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${names.plural}.${group}` },
    spec: {
      group,
      scope,
      names,
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: printerColumns,
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description,
              required: ['spec'],
              properties: {
                apiVersion: { type: 'string', description: 'Version of this schema.' },
                kind: { type: 'string', description: 'Kind of the object.' },
                metadata: { type: 'object' },
                spec: structuralSchema(spec),
                status: structuralSchema(status),
              },
            },
          },
        },
      ],
    },
  };
}

const printerColumns = [
  { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
  { name: 'Registries', type: 'integer', jsonPath: '.status.registryCount' },
  { name: 'Namespaces', type: 'string', jsonPath: '.status.namespacesReady' },
  { name: 'Expires', type: 'string', jsonPath: '.status.expiresAt' },
  { name: 'Next Refresh', type: 'string', jsonPath: '.status.nextRefreshTime' },
  { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
  {
    name: 'Message',
    type: 'string',
    priority: 1,
    jsonPath: '.status.conditions[?(@.type=="Ready")].message',
  },
];

// `input`: a field with a default is not required.
function structuralSchema(schema: z.ZodType): object {
  return z.toJSONSchema(schema, {
    io: 'input',
    target: 'openapi-3.0',
    override: ({ jsonSchema }) => {
      // What zod says beyond structural schemas: strictness, and the range of safe integers.
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      if (jsonSchema.type === 'integer') jsonSchema.format = 'int64';
    },
  });
}
