import type { JsonSchema } from './structuralSchema.ts';

/** One kind of object that is served. */
export interface ResourceType {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly shape: Shape;
  readonly subresources: ReadonlySet<string>;
  /** Of a custom resource. */
  readonly schema?: JsonSchema;
  readonly crd?: string;
}

/**
 * How a value is owned by field managers and merged: a list or map is `atomic` as a whole, `set` and `keys` are lists
 * owned item by item. Without `fields` a map's members are data, with them it is a struct.
 */
export interface Shape {
  readonly atomic?: boolean;
  readonly set?: boolean;
  readonly keys?: readonly string[];
  readonly fields?: Readonly<Record<string, Shape>>;
  readonly items?: Shape;
  readonly values?: Shape;
  /** A struct that a built-in type always has, empty or not: nobody owns it itself. */
  readonly always?: boolean;
  /** Members without a field are an error for server-side apply. */
  readonly closed?: boolean;
}

export const metadataShape: Shape = {
  always: true,
  fields: {
    labels: {},
    annotations: {},
    finalizers: { set: true },
    ownerReferences: { keys: ['uid'], items: { atomic: true } },
  },
};

const conditions: Shape = { keys: ['type'], items: { fields: {} } };
const ref: Shape = { atomic: true };

function core(plural: string, kind: string, namespaced: boolean, fields: Record<string, Shape>): ResourceType {
  return builtIn({ group: '', version: 'v1', plural, kind, namespaced, fields });
}

function builtIn(o: {
  group: string;
  version: string;
  plural: string;
  kind: string;
  namespaced: boolean;
  fields: Record<string, Shape>;
  subresources?: string[];
}): ResourceType {
  const { fields, subresources, ...names } = o;
  const always = Object.fromEntries(
    Object.entries(fields).map(([name, shape]) => [
      name,
      ['spec', 'status'].includes(name) ? { ...shape, always: true } : shape,
    ]),
  );
  return { ...names, shape: { fields: { metadata: metadataShape, ...always } }, subresources: new Set(subresources) };
}

export const namespaceType = core('namespaces', 'Namespace', false, {
  spec: { fields: { finalizers: { atomic: true } } },
  status: { fields: { conditions } },
});
export const serviceAccountType = core('serviceaccounts', 'ServiceAccount', true, {
  imagePullSecrets: { atomic: true },
  secrets: { keys: ['name'], items: ref },
});
export const secretType = core('secrets', 'Secret', true, { data: {}, stringData: {} });
export const configMapType = core('configmaps', 'ConfigMap', true, { data: {}, binaryData: {} });
export const crdType = builtIn({
  group: 'apiextensions.k8s.io',
  version: 'v1',
  plural: 'customresourcedefinitions',
  kind: 'CustomResourceDefinition',
  namespaced: false,
  fields: {
    spec: { fields: { names: { fields: { shortNames: { atomic: true } } }, versions: { atomic: true } } },
    status: { fields: { conditions, acceptedNames: { fields: {} }, storedVersions: { atomic: true } } },
  },
  subresources: ['status'],
});
export const eventType = builtIn({
  group: 'events.k8s.io',
  version: 'v1',
  plural: 'events',
  kind: 'Event',
  namespaced: true,
  fields: { regarding: ref, related: ref, series: { fields: {} } },
});
export const leaseType = builtIn({
  group: 'coordination.k8s.io',
  version: 'v1',
  plural: 'leases',
  kind: 'Lease',
  namespaced: true,
  fields: { spec: { fields: {} } },
});
export const deploymentType = builtIn({
  group: 'apps',
  version: 'v1',
  plural: 'deployments',
  kind: 'Deployment',
  namespaced: true,
  fields: { spec: { fields: { selector: { atomic: true } } }, status: { fields: { conditions } } },
  subresources: ['status', 'scale'],
});

function admission(plural: string, kind: string): ResourceType {
  const group = 'admissionregistration.k8s.io';
  return builtIn({ group, version: 'v1', plural, kind, namespaced: false, fields: { spec: { fields: {} } } });
}

function rbac(plural: string, kind: string, namespaced: boolean): ResourceType {
  const group = 'rbac.authorization.k8s.io';
  return builtIn({ group, version: 'v1', plural, kind, namespaced, fields: { rules: { atomic: true } } });
}

export const accessReviewType = builtIn({
  group: 'authorization.k8s.io',
  version: 'v1',
  plural: 'selfsubjectaccessreviews',
  kind: 'SelfSubjectAccessReview',
  namespaced: false,
  fields: {},
});

/** What is served before any CustomResourceDefinition is applied. */
export const builtInTypes: readonly ResourceType[] = [
  namespaceType,
  serviceAccountType,
  secretType,
  configMapType,
  crdType,
  eventType,
  leaseType,
  deploymentType,
  admission('validatingadmissionpolicies', 'ValidatingAdmissionPolicy'),
  admission('validatingadmissionpolicybindings', 'ValidatingAdmissionPolicyBinding'),
  rbac('clusterroles', 'ClusterRole', false),
  rbac('clusterrolebindings', 'ClusterRoleBinding', false),
  rbac('roles', 'Role', true),
  rbac('rolebindings', 'RoleBinding', true),
];

/** `secrets`, `leases.coordination.k8s.io`: where the objects of a type are kept. */
export function typeKey({ group, plural }: Pick<ResourceType, 'group' | 'plural'>): string {
  return group === '' ? plural : `${plural}.${group}`;
}
