import { crdName, resourcesPath } from '../api/groupVersion.ts';
import type { Clock, Random } from '../clock.ts';
import type { KubeClient } from '../kube/client.ts';
import type { KubeObject } from '../kube/kubeObject.ts';
import { Reflector } from '../kube/reflector.ts';
import { Store } from '../kube/store.ts';
import type { Logger } from '../observability/log.ts';
import {
  reduceCrd,
  reduceCredentialSecret,
  reduceNamespace,
  reduceResource,
  reduceSecret,
  reduceServiceAccount,
  type CrdObject,
  type CredentialSecret,
  type NamespaceObject,
  type ResourceObject,
  type SecretObject,
  type ServiceAccountObject,
} from './observedObjects.ts';

export interface RemovalCachesOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly secretNames: readonly string[]; // the one of now first
  readonly serviceAccounts: boolean;
}

export interface CachesOptions extends RemovalCachesOptions {
  readonly namespace: string; // the operator's own
  readonly credentialSecretNames: readonly string[];
}

/** A store, and the reflector that keeps it as the API server has it. */
export interface Cache<T> {
  readonly store: Store<T>;
  readonly reflector: Reflector<T>;
}

/** What may hold something of ours. Secrets only by name and only their metadata. */
export interface RemovalCaches {
  readonly namespaces: Cache<NamespaceObject>;
  readonly serviceAccounts: Cache<ServiceAccountObject> | null;
  readonly secrets: ReadonlyMap<string, Cache<SecretObject>>; // by name, the one of now first
}

/** Everything that the operator watches; only of AWS keys is the data read. */
export interface Caches extends RemovalCaches {
  readonly resources: Cache<ResourceObject>;
  readonly crds: Cache<CrdObject>;
  readonly credentials: ReadonlyMap<string, Cache<CredentialSecret>>; // by name
}

export function removalCaches(options: RemovalCachesOptions): RemovalCaches {
  const namespaceOf = (object: { namespace: string }): string => object.namespace;
  const namespaces = { kind: 'Namespace', path: '/api/v1/namespaces', reduce: reduceNamespace, metadataOnly: true };
  const accounts = {
    kind: 'ServiceAccount',
    path: '/api/v1/serviceaccounts',
    reduce: reduceServiceAccount,
    namespaceOf,
  };
  const secrets = { kind: 'Secret', path: '/api/v1/secrets', reduce: reduceSecret, metadataOnly: true, namespaceOf };
  return {
    namespaces: cacheOf(options, namespaces),
    serviceAccounts: options.serviceAccounts ? cacheOf(options, accounts) : null,
    secrets: new Map(options.secretNames.map((name) => [name, cacheOf(options, { ...secrets, name })])),
  };
}

export function createCaches(options: CachesOptions): Caches {
  const crds = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
  const keys = `/api/v1/namespaces/${options.namespace}/secrets`;
  return {
    ...removalCaches(options),
    resources: cacheOf(options, { kind: 'ClusterECRPullSecret', path: resourcesPath, reduce: reduceResource }),
    crds: cacheOf(options, {
      ...{ kind: 'CustomResourceDefinition', path: crds, name: crdName, reduce: reduceCrd, metadataOnly: true },
    }),
    credentials: new Map(
      options.credentialSecretNames.map((name) => [
        name,
        cacheOf(options, { kind: 'CredentialSecret', path: keys, name, reduce: reduceCredentialSecret }),
      ]),
    ),
  };
}

/** The reflectors, to be started, stopped and measured. */
export function reflectorsOf(caches: RemovalCaches | Caches): Reflector<unknown>[] {
  const watched = [
    ...[caches.namespaces, caches.serviceAccounts],
    ...caches.secrets.values(),
    ...('resources' in caches ? [caches.resources, caches.crds, ...caches.credentials.values()] : []),
  ];
  return watched.flatMap((cache) => (cache ? [cache.reflector as Reflector<unknown>] : []));
}

interface CacheSpec<T> {
  readonly kind: string;
  readonly path: string;
  readonly name?: string; // only the objects of this name: what the rights allow
  readonly reduce: (object: KubeObject) => T;
  readonly metadataOnly?: boolean;
  readonly namespaceOf?: (object: T) => string;
}

function cacheOf<T extends { resourceVersion: string }>(options: RemovalCachesOptions, spec: CacheSpec<T>): Cache<T> {
  const { client, clock, random, log } = options;
  const store = new Store<T>({ clock, ...(spec.namespaceOf && { namespaceOf: spec.namespaceOf }) });
  const reflector = new Reflector<T>({
    ...{ client, clock, random, log, store, kind: spec.kind, path: spec.path, reduce: spec.reduce },
    ...(spec.name !== undefined && { query: { fieldSelector: `metadata.name=${spec.name}` } }),
    ...(spec.metadataOnly && { metadataOnly: true }),
  });
  return { store, reflector };
}
