import type { Attributes, Authorizer } from './apiHandler.ts';

/** A rule of RBAC; no names: any, no namespace: every one. */
export interface Rule {
  readonly group: string;
  readonly resources: readonly string[];
  readonly names?: readonly string[];
  readonly verbs: readonly string[];
  readonly namespace?: string;
}

export interface OperatorRightsOptions {
  readonly namespace: string;
  readonly secretNames: readonly string[];
  readonly credentialSecretNames: readonly string[];
  readonly serviceAccounts?: boolean;
}

/** The chart's ClusterRole and Role (templates/clusterrole.yaml, role.yaml). */
export function operatorRules(o: OperatorRightsOptions): Rule[] {
  const { namespace, secretNames, credentialSecretNames, serviceAccounts = true } = o;
  const crd = 'clusterecrpullsecrets.ecr.pullsecrets.io';
  const leases = { group: 'coordination.k8s.io', resources: ['leases'], namespace };
  return [
    core(['secrets'], ['get', 'list', 'watch', 'create', 'patch', 'delete'], { names: secretNames }),
    core(['namespaces'], ['list', 'watch']),
    ...(serviceAccounts ? [core(['serviceaccounts'], ['get', 'list', 'watch', 'patch'])] : []),
    { group: 'ecr.pullsecrets.io', resources: ['clusterecrpullsecrets'], verbs: ['list', 'watch'] },
    { group: 'ecr.pullsecrets.io', resources: ['clusterecrpullsecrets/status'], verbs: ['patch'] },
    {
      ...{ group: 'apiextensions.k8s.io', resources: ['customresourcedefinitions'] },
      ...{ names: [crd], verbs: ['get', 'list', 'watch'] },
    },
    { group: 'events.k8s.io', resources: ['events'], verbs: ['create', 'patch'] },
    core(['secrets'], ['list', 'watch'], { names: credentialSecretNames, namespace }),
    core(['secrets'], ['get', 'create', 'patch'], { names: ['ecr-pull-tokens'], namespace }),
    { ...leases, verbs: ['create'] },
    { ...leases, names: ['ecr-pull-secrets'], verbs: ['get', 'update'] },
  ];
}

function core(
  resources: readonly string[],
  verbs: readonly string[],
  limits: { names?: readonly string[]; namespace?: string } = {},
): Rule {
  return { group: '', resources, verbs, ...limits };
}

/** Lets each user do what its rules say. Anybody may ask what he may do. */
export function rbac(rulesOf: (user: string) => readonly Rule[]): Authorizer {
  return (attributes) =>
    attributes.resource === 'selfsubjectaccessreviews' ||
    rulesOf(attributes.user.name).some((rule) => allows(rule, attributes));
}

function allows(rule: Rule, { verb, group, resource, subresource, namespace, name }: Attributes): boolean {
  const full = subresource === '' ? resource : `${resource}/${subresource}`;
  return (
    rule.group === group &&
    rule.resources.includes(full) &&
    rule.verbs.includes(verb) &&
    (rule.names === undefined || rule.names.includes(name)) &&
    (rule.namespace === undefined || rule.namespace === namespace)
  );
}
