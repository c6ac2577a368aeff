import { timestamp, type KubeObject } from './kubeObject.ts';
import type { Change, ObjectStore } from './objectStore.ts';
import {
  crdType,
  namespaceType,
  serviceAccountType,
  typeKey,
  metadataShape,
  type ResourceType,
} from './resourceTypes.ts';
import { shapeOf, type JsonSchema } from './structuralSchema.ts';

/** How long the controllers of a cluster take; all in ms. */
export interface Pace {
  /** From a namespace to its ServiceAccount `default`. */
  readonly defaultServiceAccountMs: number;
  /** From the deletion of a namespace to the removal of what is in it. */
  readonly namespaceDeletionMs: number;
  /** For how long a CustomResourceDefinition's resources are answered with 429; on 1.36.3 once 0.4 s, once above 1.5 s. */
  readonly crdInitialisingMs: number;
  /** From the deletion of a CustomResourceDefinition to the DELETED of its resources, and from there to its own. */
  readonly crdDeletionMs: number;
  /** From the end of a CustomResourceDefinition to the end of the watches of its resources. */
  readonly watchEndMs: number;
}

export const defaultPace: Pace = {
  defaultServiceAccountMs: 5,
  namespaceDeletionMs: 20,
  crdInitialisingMs: 0,
  crdDeletionMs: 10,
  watchEndMs: 100,
};

interface LifeOptions {
  readonly store: ObjectStore;
  readonly types: Map<string, ResourceType>;
  readonly pace: () => Pace;
  readonly now: () => number;
  readonly endWatches: (of: string) => void;
}

/**
 * What the controllers of a real cluster do: default ServiceAccounts, the end of namespaces, CustomResourceDefinitions that
 * become served and vanish with their resources.
 */
export class ClusterLife {
  readonly #o: LifeOptions;
  readonly #initialisingUntil = new Map<string, number>(); // ms
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(o: LifeOptions) {
    this.#o = o;
    o.store.subscribe((change) => this.#react(change));
  }

  isInitialising({ crd }: ResourceType): boolean {
    return crd !== undefined && (this.#initialisingUntil.get(crd) ?? 0) > Date.now();
  }

  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  /** A namespace that is deleted: Terminating, later its content goes, then itself. */
  deleteNamespace(live: KubeObject): KubeObject {
    if (live.metadata.deletionTimestamp) return live;
    const metadata = { ...live.metadata, deletionTimestamp: timestamp(this.#o.now()) };
    const terminating = { ...live, metadata, status: { phase: 'Terminating' } };
    const stored = this.#o.store.update(namespaceType, terminating, live);
    this.#after(this.#o.pace().namespaceDeletionMs, () => this.#empty(stored.metadata.name));
    return stored;
  }

  deleteCrd(live: KubeObject): KubeObject {
    if (live.metadata.deletionTimestamp) return live;
    const { store, pace } = this.#o;
    const metadata = {
      ...live.metadata,
      deletionTimestamp: timestamp(this.#o.now()),
      finalizers: ['customresourcecleanup.apiextensions.k8s.io'],
    };
    const stored = store.update(crdType, { ...live, metadata }, live);
    this.#after(pace().crdDeletionMs, () => this.#emptyCrd(stored.metadata.name));
    return stored;
  }

  #react({ type, of, object }: Change): void {
    if (of === 'namespaces' && type === 'ADDED') this.#makeDefaultLater(object.metadata.name);
    if (of === 'serviceaccounts' && type === 'DELETED') this.#makeDefaultLater(object.metadata.namespace ?? '');
    if (of === typeKey(crdType) && type !== 'DELETED') this.#serve(object);
  }

  #makeDefaultLater(namespace: string): void {
    this.#after(this.#o.pace().defaultServiceAccountMs, () => {
      const { store } = this.#o;
      const found = store.get(namespaceType, undefined, namespace);
      if (!found || found.metadata.deletionTimestamp || store.get(serviceAccountType, namespace, 'default')) return;
      store.create(serviceAccountType, {
        kind: 'ServiceAccount',
        apiVersion: 'v1',
        metadata: { name: 'default', namespace },
      });
    });
  }

  #empty(namespace: string): void {
    const { store, types } = this.#o;
    const live = store.get(namespaceType, undefined, namespace);
    if (!live) return;
    let isBlocked = false;
    for (const type of types.values()) {
      if (!type.namespaced) continue;
      for (const object of store.list(type, namespace)) {
        if ((object.metadata.finalizers ?? []).length === 0) store.delete(type, object);
        else isBlocked = true;
      }
    }
    if (isBlocked) this.#after(this.#o.pace().namespaceDeletionMs, () => this.#empty(namespace));
    else store.delete(namespaceType, live);
  }

  #emptyCrd(name: string): void {
    const { store, types } = this.#o;
    const live = store.get(crdType, undefined, name);
    if (!live?.metadata.deletionTimestamp) return;
    const type = types.get(name);
    for (const object of type ? store.list(type) : []) if (type) store.delete(type, object);
    this.#after(this.#o.pace().crdDeletionMs, () => {
      store.delete(crdType, { ...live });
      types.delete(name);
      if (type) store.forget(type);
      this.#after(this.#o.pace().watchEndMs, () => this.#o.endWatches(name));
    });
  }

  // The resource is served with the write; Established is written as the controller does.
  #serve(crd: KubeObject): void {
    if (crd.metadata.deletionTimestamp) return;
    const { types, store } = this.#o;
    const type = typeOfCrd(crd);
    if (!types.has(crd.metadata.name)) {
      this.#initialisingUntil.set(crd.metadata.name, Date.now() + this.#o.pace().crdInitialisingMs);
    }
    types.set(crd.metadata.name, type);
    if (crd['status'] !== undefined) return;
    this.#after(0, () => {
      const live = store.get(crdType, undefined, crd.metadata.name);
      if (!live || live['status'] !== undefined) return;
      const names = (live['spec'] as CrdSpec).names;
      const lastTransitionTime = timestamp(this.#o.now());
      const conditions = ['NamesAccepted', 'Established'].map((condition) => ({
        ...{ type: condition, status: 'True', lastTransitionTime },
        ...(condition === 'Established'
          ? { reason: 'InitialNamesAccepted', message: 'the initial names have been accepted' }
          : { reason: 'NoConflicts', message: 'no conflicts found' }),
      }));
      const status = { conditions, acceptedNames: names, storedVersions: [type.version] };
      store.update(crdType, { ...live, status }, live);
    });
  }

  #after(ms: number, fn: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      fn();
    }, ms);
    this.#timers.add(timer);
  }
}

interface CrdSpec {
  readonly group: string;
  readonly scope: 'Cluster' | 'Namespaced';
  readonly names: { readonly plural: string; readonly kind: string };
  readonly versions: readonly {
    readonly name: string;
    readonly storage: boolean;
    readonly schema: { readonly openAPIV3Schema: JsonSchema };
    readonly subresources?: object;
  }[];
}

function typeOfCrd(crd: KubeObject): ResourceType {
  const { group, scope, names, versions } = crd['spec'] as CrdSpec;
  const version = versions.find(({ storage }) => storage) ?? versions[0];
  const schema = version?.schema.openAPIV3Schema ?? {};
  const { metadata: _, apiVersion: _a, kind: _k, ...properties } = schema.properties ?? {};
  const own = { ...schema, properties };
  const shape = shapeOf(own);
  return {
    ...{ group, version: version?.name ?? 'v1', plural: names.plural, kind: names.kind },
    namespaced: scope === 'Namespaced',
    shape: { ...shape, fields: { ...shape.fields, metadata: metadataShape } },
    subresources: new Set(Object.keys(version?.subresources ?? {})),
    schema: own,
    crd: crd.metadata.name,
  };
}
