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

export interface CachesOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly namespace: string; // the operator's own
  readonly secretNames: readonly string[]; // the one of now first
  readonly credentialSecretNames: readonly string[];
  readonly serviceAccounts: boolean;
}

/** A store, and the reflector that keeps it as the API server has it. */
export interface Cache<T> {
  readonly store: Store<T>;
  readonly reflector: Reflector<T>;
}

/** Everything that the operator watches. Secrets only by name, and but for AWS keys only their metadata. */
export interface Caches {
  readonly namespaces: Cache<NamespaceObject>;
  readonly serviceAccounts: Cache<ServiceAccountObject> | null;
  readonly secrets: ReadonlyMap<string, Cache<SecretObject>>; // by name, the one of now first
  readonly resources: Cache<ResourceObject>;
  readonly crds: Cache<CrdObject>;
  readonly credentials: ReadonlyMap<string, Cache<CredentialSecret>>; // by name
}

export function createCaches(options: CachesOptions): Caches {
  const { namespace, secretNames, credentialSecretNames } = options;
  const inNamespace = { namespaceOf: (object: { namespace: string }) => object.namespace };
  return {
    namespaces: cacheOf(options, {
      kind: 'Namespace',
      path: '/api/v1/namespaces',
      reduce: reduceNamespace,
      metadataOnly: true,
    }),
    serviceAccounts: options.serviceAccounts
      ? cacheOf(options, {
          kind: 'ServiceAccount',
          path: '/api/v1/serviceaccounts',
          reduce: reduceServiceAccount,
          ...inNamespace,
        })
      : null,
    secrets: new Map(
      secretNames.map((name) => [
        name,
        cacheOf(options, {
          kind: 'Secret',
          path: '/api/v1/secrets',
          name,
          reduce: reduceSecret,
          metadataOnly: true,
          ...inNamespace,
        }),
      ]),
    ),
    resources: cacheOf(options, { kind: 'ClusterECRPullSecret', path: resourcesPath, reduce: reduceResource }),
    crds: cacheOf(options, {
      kind: 'CustomResourceDefinition',
      path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
      name: crdName,
      reduce: reduceCrd,
      metadataOnly: true,
    }),
    credentials: new Map(
      credentialSecretNames.map((name) => [
        name,
        cacheOf(options, {
          kind: 'CredentialSecret',
          path: `/api/v1/namespaces/${namespace}/secrets`,
          name,
          reduce: reduceCredentialSecret,
        }),
      ]),
    ),
  };
}

/** The reflectors, to be started, stopped and measured. */
export function reflectorsOf(caches: Caches): Reflector<unknown>[] {
  return [
    caches.namespaces,
    caches.serviceAccounts,
    ...caches.secrets.values(),
    caches.resources,
    caches.crds,
    ...caches.credentials.values(),
  ].flatMap((cache) => (cache ? [cache.reflector as Reflector<unknown>] : []));
}

interface CacheSpec<T> {
  readonly kind: string;
  readonly path: string;
  readonly name?: string; // only the objects of this name: what the rights allow
  readonly reduce: (object: KubeObject) => T;
  readonly metadataOnly?: boolean;
  readonly namespaceOf?: (object: T) => string;
}

function cacheOf<T extends { resourceVersion: string }>(options: CachesOptions, spec: CacheSpec<T>): Cache<T> {
  const { client, clock, random, log } = options;
  const store = new Store<T>({ clock, ...(spec.namespaceOf && { namespaceOf: spec.namespaceOf }) });
  const reflector = new Reflector<T>({
    ...{ client, clock, random, log, store, kind: spec.kind, path: spec.path, reduce: spec.reduce },
    ...(spec.name !== undefined && { query: { fieldSelector: `metadata.name=${spec.name}` } }),
    ...(spec.metadataOnly && { metadataOnly: true }),
  });
  return { store, reflector };
}
