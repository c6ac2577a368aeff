import type { ObservedNamespace } from '../core/diffNamespace.ts';
import type { ReflectorState } from '../kube/reflector.ts';
import { reflectorsOf, type Caches } from './caches.ts';
import type { NamespaceObject } from './observedObjects.ts';
import type { Permissions } from './permissions.ts';

/** What the caches show, and how far it can be relied upon. */
export class View {
  readonly #caches: Caches;
  readonly #permissions: Permissions;
  readonly #secretName: string;

  constructor(options: { caches: Caches; permissions: Permissions; secretName: string }) {
    this.#caches = options.caches;
    this.#permissions = options.permissions;
    this.#secretName = options.secretName;
  }

  /** A namespace as the watches last showed it. */
  snapshot(name: string): { namespace: NamespaceObject; observed: ObservedNamespace } | null {
    const { namespaces, secrets, serviceAccounts } = this.#caches;
    const namespace = namespaces.store.get(name);
    if (!namespace) return null;
    const secretIn = (secret: string) => secrets.get(secret)?.store.get(`${name}/${secret}`);
    const formerNames = [...secrets.keys()].filter((secret) => secret !== this.#secretName);
    const observed = {
      secret: secretIn(this.#secretName) ?? null,
      formerSecrets: formerNames.flatMap((secret) => secretIn(secret) ?? []),
      serviceAccounts: this.#mayEditServiceAccounts ? (serviceAccounts?.store.inNamespace(name) ?? null) : null,
    };
    return { namespace, observed };
  }

  /** Everything has been listed once; what may not be is switched off, not waited for. */
  get isComplete(): boolean {
    const { namespaces, resources, secrets, serviceAccounts } = this.#caches;
    const isListed = [namespaces, resources, ...secrets.values()].every(({ reflector }) => reflector.state.everSynced);
    const { everSynced = true, listStatus = null } = serviceAccounts?.reflector.state ?? {};
    return isListed && (everSynced || listStatus === 403);
  }

  /** Stricter: every watch stands, and everything is known to be current, else nothing may be removed. */
  get isTrusted(): boolean {
    const { namespaces, resources, crds, secrets, serviceAccounts } = this.#caches;
    const isCurrent = [namespaces, resources, crds, ...secrets.values()].every(({ reflector }) =>
      isUpToDate(reflector.state),
    );
    const state = serviceAccounts?.reflector.state;
    return isCurrent && (state === undefined || isUpToDate(state) || state.listStatus === 403);
  }

  get mayWriteSecrets(): boolean {
    return !this.#permissions.lacks('patch', 'secrets');
  }

  /** "patch serviceaccounts", in order. */
  get missingPermissions(): string[] {
    const refused = reflectorsOf(this.#caches).filter(({ state }) => state.listStatus === 403);
    const lists = refused.map(({ kind }) => `list ${RESOURCES.get(kind) ?? kind}`);
    return [...new Set([...this.#permissions.missing, ...lists])].sort();
  }

  get #mayEditServiceAccounts(): boolean {
    const { serviceAccounts } = this.#caches;
    return serviceAccounts?.reflector.state.everSynced === true && !this.#permissions.lacks('patch', 'serviceaccounts');
  }
}

// One that fails has shown all that there was, but what has happened since may be the very correction.
function isUpToDate({ synced, error }: ReflectorState): boolean {
  return synced && error === null;
}

// As RBAC names them.
const RESOURCES = new Map([
  ['Namespace', 'namespaces'],
  ['ServiceAccount', 'serviceaccounts'],
  ['Secret', 'secrets'],
  ['CredentialSecret', "secrets (in the operator's namespace)"],
  ['ClusterECRPullSecret', 'clusterecrpullsecrets'],
  ['CustomResourceDefinition', 'customresourcedefinitions'],
]);
