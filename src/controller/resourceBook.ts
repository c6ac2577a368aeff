import { crdName } from '../api/groupVersion.ts';
import type { TokenWant } from '../aws/tokenBroker.ts';
import type { Clock } from '../clock.ts';
import type { ResourceView, Resources } from '../core/planNamespace.ts';
import { ApiStatusError } from '../kube/apiStatusError.ts';
import type { KubeClient } from '../kube/client.ts';
import type { KubeObject } from '../kube/kubeObject.ts';
import type { Caches } from './caches.ts';
import { DepartedResources } from './departedResources.ts';
import { reduceCrd } from './observedObjects.ts';
import { resolveResource, type ResolveContext, type ResolvedResource } from './resolveResource.ts';

/** While the CRD is younger than this, the first list that an operator reads may not be whole yet. */
const YOUNG_CRD_MS = 10 * 60_000;

export interface ResourceBookOptions {
  readonly caches: Pick<Caches, 'resources' | 'crds'>;
  readonly client: Pick<KubeClient, 'request'>;
  readonly clock: Clock;
  /** The API server's wall clock, ms. */
  readonly serverNow: () => number;
  readonly context: ResolveContext;
  readonly removalDelayMs: number;
}

/** The custom resources as they count: read, those that have just gone, and whether the list can be trusted. */
export class ResourceBook {
  readonly #options: ResourceBookOptions;
  readonly #departed: DepartedResources;
  readonly #resolved = new Map<string, ResolvedResource>();
  #hasKnownAll = false; // the list was whole once: what has gone since is among the departed
  #hostsSeen = new Set<string>();
  #listedUnder: string | null = null; // the uid of the CRD under which the resources were listed
  #resources: Resources | null = null;

  constructor(options: ResourceBookOptions) {
    this.#options = options;
    this.#departed = new DepartedResources(options.clock);
  }

  /** Those that are listed, in the order of their names. */
  get all(): ResolvedResource[] {
    return [...this.#resolved.values()].sort((a, b) => (a.object.name < b.object.name ? -1 : 1));
  }

  get(name: string): ResolvedResource | undefined {
    return this.#resolved.get(name);
  }

  /** What the plan is made from. */
  get resources(): Resources {
    this.#resources ??= {
      inOrder: [...this.all.map(({ view }) => view), ...this.#departed.held()].sort(byName),
      heldUnlessIn: this.#isListYoung ? new Set(this.#hostsSeen) : null,
    };
    return this.#resources;
  }

  get wants(): TokenWant[] {
    return this.all.flatMap((resource) => resource.wants);
  }

  get hasUndecidedDepartures(): boolean {
    return this.#departed.hasUndecided;
  }

  /** When a list that is too young to be trusted no longer will be, ms from now; null: it is trusted. */
  get trustedInMs(): number | null {
    const crd = this.#options.caches.crds.store.get(crdName);
    return crd && this.#isListYoung ? Math.max(0, crd.createdAt + YOUNG_CRD_MS - this.#options.serverNow()) : null;
  }

  /** A resource came, changed, or its AWS keys did. */
  read(name: string): void {
    const object = this.#options.caches.resources.store.get(name);
    if (!object) return;
    const former = this.#departed.return(name) ?? this.#resolved.get(name)?.view;
    const resolved = resolveResource(object, this.#options.context, former);
    for (const registry of resolved.view.registries ?? []) this.#hostsSeen.add(registry.host);
    this.#resolved.set(name, resolved);
    this.changed();
  }

  /** A resource is no longer listed; what that means is decided later. */
  depart(name: string): void {
    const resolved = this.#resolved.get(name);
    if (!resolved) return;
    this.#noteAge();
    this.#resolved.delete(name);
    this.#departed.depart(resolved.view, this.#listedUnder);
    this.changed();
  }

  /** The resources were listed anew, while the CRD was the one that its own watch shows. */
  listed(): void {
    const uid = this.#options.caches.crds.store.get(crdName)?.uid ?? null;
    if (uid === this.#listedUnder) return;
    this.#listedUnder = uid;
    this.#hostsSeen = new Set(this.all.flatMap(({ view }) => view.registries?.map(({ host }) => host) ?? []));
    this.#noteAge();
    this.changed();
  }

  /** Drops what was derived. */
  changed(): void {
    this.#resources = null;
  }

  /** Decides about the departed; returns those that are truly deleted. */
  async settle(): Promise<ResourceView[]> {
    const deleted = this.#departed.settle(this.#options.removalDelayMs, await this.#readCrdUid());
    this.changed();
    return deleted;
  }

  /** Read from the API server just before a removal: the CRD is there, steady, and the one we listed under. */
  async isSteady(): Promise<boolean> {
    const uid = await this.#readCrdUid();
    return uid !== null && uid === this.#listedUnder;
  }

  // An operator that was there before the CRD was replaced knows what has gone with it. One that has started since, or
  // while there was none, cannot tell an empty list from one that is still being restored.
  get #isListYoung(): boolean {
    this.#noteAge();
    return !this.#hasKnownAll;
  }

  #noteAge(): void {
    const crd = this.#options.caches.crds.store.get(crdName);
    if (crd?.uid !== this.#listedUnder) return;
    this.#hasKnownAll ||= crd !== undefined && this.#options.serverNow() - crd.createdAt >= YOUNG_CRD_MS;
  }

  async #readCrdUid(): Promise<string | null> {
    try {
      const object = await this.#options.client.request<KubeObject>({
        method: 'GET',
        path: `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${crdName}`,
        metadataOnly: true,
      });
      const crd = reduceCrd(object);
      return crd.isTerminating ? null : crd.uid;
    } catch (error) {
      if (error instanceof ApiStatusError && error.status === 404) return null;
      throw error;
    }
  }
}

function byName(a: ResourceView, b: ResourceView): number {
  return a.name < b.name ? -1 : 1;
}
