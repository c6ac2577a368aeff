import { DOCKER_CONFIG_LIMIT_BYTES, hashOfEntry, sizeOfEntry, type DockerAuth } from './dockerConfig.ts';
import type { NamePatterns } from './glob.ts';
import { whyNotSelected, type NamespaceSelection, type NamespaceView } from './namespaceSelection.ts';

/** What is known of the token of one host of one resource. */
export type TokenState =
  { readonly state: 'usable'; readonly auth: string } | { readonly state: 'expired' } | { readonly state: 'unknown' };

export interface RegistryView {
  readonly host: string;
  /** ECR Public: pulls work without a token, and an expired one breaks them. */
  readonly allowsAnonymousPulls: boolean;
}

/** A custom resource as the plan sees it. */
export interface ResourceView {
  readonly name: string;
  /** Why nothing may be added, refreshed or removed for it; null for one that is acted upon. */
  readonly held: string | null;
  readonly namespaces: NamespaceSelection;
  readonly serviceAccounts: NamePatterns | null; // null: could not be read
  readonly registries: readonly RegistryView[] | null; // null: could not be read, any host may be its
}

/** All resources at one moment, in the order of their names: who comes first wins a host. */
export interface Resources {
  readonly inOrder: readonly ResourceView[];
  /**
   * Hosts outside this set are held, whoever named them: the list of resources cannot be trusted to be whole yet.
   * null: it can.
   */
  readonly heldUnlessIn: ReadonlySet<string> | null;
}

export interface PlannedEntry extends DockerAuth {
  readonly hash: string;
  readonly resource: string;
}

/** What a namespace should hold; pure data, compared with what is observed by `diffNamespace`. */
export interface NamespacePlan {
  /** Names of the active resources that select the namespace, in order. */
  readonly selectedBy: readonly string[];
  readonly entries: ReadonlyMap<string, PlannedEntry>; // by host, in order of precedence
  readonly held: HeldHosts;
  /** ServiceAccounts that get the entry. */
  readonly serviceAccounts: readonly NamePatterns[];
  /** ServiceAccounts that keep the entry if they have it; null: all of them. */
  readonly heldServiceAccounts: readonly NamePatterns[] | null;
  readonly tooLarge: readonly { resource: string; host: string }[];
}

export interface HeldHosts {
  readonly hosts: ReadonlySet<string>;
  readonly unlessIn: ReadonlySet<string> | null;
}

export function isHeld(held: HeldHosts, host: string): boolean {
  return held.hosts.has(host) || (held.unlessIn !== null && !held.unlessIn.has(host));
}

/** The hash of an entry of this token; a memo, since a thousand namespaces share a token. */
export type EntryHash = (auth: string) => string;

export const entryHash: EntryHash = (auth) => hashOfEntry({ auth });

/**
 * The desired state of one namespace: a pure function of the namespace, all resources and the tokens of now. A host is
 * wanted (an active resource selects the namespace and its token is usable), held, or gone: in neither set.
 * null: the namespace is on its way out, and not touched.
 */
export function planNamespace(
  namespace: NamespaceView,
  resources: Resources,
  tokenOf: (resource: string, host: string) => TokenState,
  hashOf: EntryHash = entryHash,
): NamespacePlan | null {
  if (namespace.terminating) return null;
  if (namespace.ignored) return EMPTY_PLAN; // also where something is held
  const selecting = resources.inOrder.filter(
    (resource) => resource.held === null && whyNotSelected(resource.namespaces, namespace) === null,
  );
  const heldResources = resources.inOrder.filter((resource) => resource.held !== null);
  const wanted = wantedEntries(selecting, tokenOf, hashOf);
  const unreadable = heldResources.some((resource) => resource.registries === null);
  const isUncertain = unreadable || resources.heldUnlessIn !== null;
  return {
    selectedBy: selecting.map((resource) => resource.name),
    entries: wanted.entries,
    held: {
      hosts: new Set([...wanted.held, ...heldResources.flatMap(hostsOf)]),
      unlessIn: unreadable ? NO_HOSTS : resources.heldUnlessIn,
    },
    serviceAccounts: selecting.flatMap((resource) => resource.serviceAccounts ?? []),
    heldServiceAccounts: isUncertain ? null : patternsOf(heldResources),
    tooLarge: wanted.tooLarge,
  };
}

// null: one of them could not be read, so any ServiceAccount may be its.
function patternsOf(resources: readonly ResourceView[]): NamePatterns[] | null {
  const patterns = resources.map((resource) => resource.serviceAccounts);
  return patterns.includes(null) ? null : patterns.filter((one) => one !== null);
}

const NO_HOSTS: ReadonlySet<string> = new Set();

/** Nothing is wanted and nothing held: nothing of ours stays. */
export const EMPTY_PLAN: NamespacePlan = {
  selectedBy: [],
  entries: new Map(),
  held: { hosts: NO_HOSTS, unlessIn: null },
  serviceAccounts: [],
  heldServiceAccounts: [],
  tooLarge: [],
};

function hostsOf(resource: ResourceView): string[] {
  return resource.registries?.map((registry) => registry.host) ?? [];
}

interface Wanted {
  entries: Map<string, PlannedEntry>;
  held: Set<string>;
  tooLarge: { resource: string; host: string }[];
}

// In order of precedence, so what no longer fits is the last.
function wantedEntries(
  selecting: readonly ResourceView[],
  tokenOf: (resource: string, host: string) => TokenState,
  hashOf: EntryHash,
): Wanted {
  const wanted: Wanted = { entries: new Map(), held: new Set(), tooLarge: [] };
  let size = 0;
  for (const { resource, registry } of registriesOf(selecting)) {
    if (wanted.entries.has(registry.host)) continue;
    const token = tokenOf(resource, registry.host);
    if (token.state !== 'usable') {
      if (keepsWithoutToken(token, registry)) wanted.held.add(registry.host);
      continue;
    }
    const added = sizeOfEntry(registry.host, token);
    if (size + added > DOCKER_CONFIG_LIMIT_BYTES) {
      wanted.tooLarge.push({ resource, host: registry.host });
      continue;
    }
    size += added;
    wanted.entries.set(registry.host, { auth: token.auth, hash: hashOf(token.auth), resource });
  }
  return wanted;
}

function registriesOf(resources: readonly ResourceView[]): { resource: string; registry: RegistryView }[] {
  return resources.flatMap(({ name, registries }) =>
    (registries ?? []).map((registry) => ({ resource: name, registry })),
  );
}

// An expired entry of a private host harms nobody: kubelets still start images that are on the node. One of a public
// host makes pulls fail that would work without any.
function keepsWithoutToken(token: TokenState, registry: RegistryView): boolean {
  return token.state === 'unknown' || !registry.allowsAnonymousPulls;
}
