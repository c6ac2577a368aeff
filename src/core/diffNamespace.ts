import { boundedPatterns, matchesName, type NamePatterns } from './glob.ts';
import type { EntryList } from './imagePullSecrets.ts';
import { isHeld, type NamespacePlan, type PlannedEntry } from './planNamespace.ts';

/** A Secret of our name as its metadata shows it; its data is never looked at. */
export interface ObservedSecret {
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** It bears our label, our annotation or our field manager's entry. */
  readonly isOurs: boolean;
  /** Our field manager still owns the data, the labels and the annotations: nobody has edited them. */
  readonly isIntact: boolean;
  /** Somebody has set `immutable` on it. Whether to true, metadata does not tell. */
  readonly mayBeImmutable?: boolean;
  /** host → hash of its entry, from the annotation; null where that is absent or cannot be read. */
  readonly hosts: ReadonlyMap<string, string> | null;
  /** The ServiceAccount patterns whose entries we have made here. */
  readonly patterns: readonly NamePatterns[];
}

export interface ObservedServiceAccount extends EntryList {
  readonly name: string;
  readonly isIgnored: boolean;
  /** The index in managedFields at which the API server notes us as owner of the list; null: nowhere. */
  readonly ownedAt: number | null;
}

export interface ObservedNamespace {
  readonly secret: ObservedSecret | null;
  /** Secrets under names that this installation had before. */
  readonly formerSecrets: readonly ObservedSecret[];
  /** null: this installation leaves ServiceAccounts alone, or may not see them. */
  readonly serviceAccounts: readonly ObservedServiceAccount[] | null;
}

export type Write =
  | {
      readonly kind: 'ApplySecret';
      readonly observed: ObservedSecret | null;
      readonly entries: ReadonlyMap<string, PlannedEntry>;
      /** Which other hosts of the published Secret stay, byte for byte; null: none can be there, no need to read it. */
      readonly keeps: ((host: string) => boolean) | null;
      readonly patterns: readonly NamePatterns[];
    }
  | { readonly kind: 'AddEntry'; readonly serviceAccount: ObservedServiceAccount }
  | { readonly kind: 'ReleaseOwnership'; readonly serviceAccount: ObservedServiceAccount; readonly index: number }
  | { readonly kind: 'RemoveEntry'; readonly serviceAccount: ObservedServiceAccount; readonly secretName: string }
  | { readonly kind: 'DeleteSecret'; readonly observed: ObservedSecret };

type ApplySecret = Extract<Write, { kind: 'ApplySecret' }>;

export interface NamespaceDiff {
  /** In the order in which they must be carried out; [] when nothing is to do. */
  readonly writes: readonly Write[];
  /** Something would be removed, once `mayRemove` says so. */
  readonly isRemovalPending: boolean;
  /** A Secret of our name belongs to somebody else, and something of ours was to be there. */
  readonly isBlocked: boolean;
}

const NOTHING: NamespaceDiff = { writes: [], isRemovalPending: false, isBlocked: false };

/**
 * Compares what a namespace should hold with what the watches last showed. At most one write of the Secret and one of
 * each ServiceAccount; nothing changed, no write. Without `mayRemove` whatever would go stays and is told as pending.
 */
export function diffNamespace(
  plan: NamespacePlan | null,
  observed: ObservedNamespace,
  { secretName, mayRemove }: { secretName: string; mayRemove: boolean },
): NamespaceDiff {
  if (plan === null) return NOTHING;
  if (observed.secret && !observed.secret.isOurs) return { ...NOTHING, isBlocked: plan.entries.size > 0 };
  const keeps = (host: string): boolean => !mayRemove || isHeld(plan.held, host);
  const apply = secretWrite(plan, observed, { secretName, keeps });
  const remains = apply !== null || holdsAnything(plan, observed.secret);
  const entries = entryWrites(plan, observed, { secretName, remains });
  const additions: Write[] = [...(apply ? [apply] : []), ...entries.adds];
  const removals: Write[] = [
    ...entries.removals,
    ...(remains ? [] : deletionOf(observed.secret)),
    ...(additions.length === 0 ? formerWrites(plan, observed) : []),
  ];
  if (mayRemove) return { ...NOTHING, writes: [...additions, ...removals] };
  const isRemovalPending = removals.length > 0 || hasGoneHost(plan, observed.secret);
  return { ...NOTHING, writes: additions, isRemovalPending };
}

function deletionOf(secret: ObservedSecret | null): Write[] {
  return secret ? [{ kind: 'DeleteSecret', observed: secret }] : [];
}

function secretWrite(
  plan: NamespacePlan,
  observed: ObservedNamespace,
  { secretName, keeps }: { secretName: string; keeps: (host: string) => boolean },
): ApplySecret | null {
  const { secret } = observed;
  const patterns = patternsToRecord(plan, observed, secretName);
  if (!secret) return creation(plan.entries, patterns);
  // It goes as a whole, once it may: until then it is not written either.
  return holdsAnything(plan, secret) ? change(plan, { secret, patterns, keeps }) : null;
}

function change(
  plan: NamespacePlan,
  o: { secret: ObservedSecret; patterns: readonly NamePatterns[]; keeps: (host: string) => boolean },
): ApplySecret | null {
  const { secret, patterns, keeps } = o;
  const { entries } = plan;
  const others = otherHosts(plan, secret);
  const hasKept = others?.some(keeps) ?? entries.size > 0; // where it is not known what there is, it is read
  if (entries.size === 0 && !hasKept) return null; // all that it holds is unknown
  if (others?.every(keeps) && isUpToDate(plan, secret, patterns)) return null;
  return { kind: 'ApplySecret', observed: secret, entries, keeps: hasKept ? keeps : null, patterns };
}

function creation(entries: NamespacePlan['entries'], patterns: readonly NamePatterns[]): ApplySecret | null {
  return entries.size > 0 ? { kind: 'ApplySecret', observed: null, entries, keeps: null, patterns } : null;
}

function otherHosts({ entries }: NamespacePlan, { hosts }: ObservedSecret): string[] | null {
  return hosts && [...hosts.keys()].filter((host) => !entries.has(host));
}

function isUpToDate(plan: NamespacePlan, secret: ObservedSecret, patterns: readonly NamePatterns[]): boolean {
  // What is all held is not repaired: its bytes are not known.
  const isGood = secret.isIntact || plan.entries.size === 0;
  return (
    isGood &&
    [...plan.entries].every(([host, entry]) => secret.hosts?.get(host) === entry.hash) &&
    samePatterns(patterns, secret.patterns)
  );
}

function holdsAnything(plan: NamespacePlan, secret: ObservedSecret | null): boolean {
  if (!secret) return false;
  if (plan.entries.size > 0) return true;
  if (secret.hosts === null) return plan.held.hosts.size > 0 || plan.held.unlessIn !== null;
  return [...secret.hosts.keys()].some((host) => isHeld(plan.held, host));
}

function hasGoneHost(plan: NamespacePlan, secret: ObservedSecret | null): boolean {
  return [...(secret?.hosts?.keys() ?? [])].some((host) => !plan.entries.has(host) && !isHeld(plan.held, host));
}

interface EntryWrites {
  readonly adds: readonly Write[];
  readonly removals: readonly Write[];
}

// `remains`: the Secret is there or about to be, so an entry for it dangles nowhere.
function entryWrites(
  plan: NamespacePlan,
  observed: ObservedNamespace,
  { secretName, remains }: { secretName: string; remains: boolean },
): EntryWrites {
  const adds: Write[] = [];
  const removals: Write[] = [];
  for (const serviceAccount of observed.serviceAccounts ?? []) {
    const count = serviceAccount.entries.filter((entry) => entry === secretName).length;
    if (remains && isDesired(plan, serviceAccount)) {
      if (count !== 1) adds.push({ kind: 'AddEntry', serviceAccount });
    } else if (count > 0 && mayTake(plan, observed, { serviceAccount, remains })) {
      removals.push({ kind: 'RemoveEntry', serviceAccount, secretName });
    }
    if (serviceAccount.ownedAt !== null) {
      adds.push({ kind: 'ReleaseOwnership', serviceAccount, index: serviceAccount.ownedAt });
    }
  }
  return { adds, removals };
}

function isDesired(plan: NamespacePlan, serviceAccount: ObservedServiceAccount): boolean {
  return (
    !serviceAccount.isIgnored && plan.serviceAccounts.some((patterns) => matchesName(patterns, serviceAccount.name))
  );
}

// Only entries that we have made: those on ServiceAccounts which match a pattern that was served here. One that a user
// put elsewhere is the user's.
function mayTake(
  plan: NamespacePlan,
  observed: ObservedNamespace,
  { serviceAccount, remains }: { serviceAccount: ObservedServiceAccount; remains: boolean },
): boolean {
  const served = [...(observed.secret?.patterns ?? []), ...plan.serviceAccounts];
  if (!served.some((patterns) => matchesName(patterns, serviceAccount.name))) return false;
  return serviceAccount.isIgnored || !remains || !isHeldEntry(plan, serviceAccount.name);
}

function isHeldEntry(plan: NamespacePlan, name: string): boolean {
  return plan.heldServiceAccounts === null || plan.heldServiceAccounts.some((patterns) => matchesName(patterns, name));
}

// The patterns of now, and those of before whose entries are still there: they tell what may be removed.
function patternsToRecord(plan: NamespacePlan, observed: ObservedNamespace, secretName: string): NamePatterns[] {
  const recorded = new Map(plan.serviceAccounts.map((patterns) => [keyOf(patterns), patterns]));
  for (const former of observed.secret?.patterns ?? []) {
    const isNeeded = observed.serviceAccounts
      ? observed.serviceAccounts.some((serviceAccount) => isLeftOf(former, serviceAccount, { plan, secretName }))
      : true;
    if (isNeeded) recorded.set(keyOf(former), former);
  }
  return boundedPatterns([...recorded.keys()].sort().flatMap((key) => recorded.get(key) ?? []));
}

function isLeftOf(
  former: NamePatterns,
  serviceAccount: ObservedServiceAccount,
  { plan, secretName }: { plan: NamespacePlan; secretName: string },
): boolean {
  return (
    serviceAccount.entries.includes(secretName) &&
    matchesName(former, serviceAccount.name) &&
    !isDesired(plan, serviceAccount)
  );
}

/** Equal patterns have equal keys, whatever their order. */
function keyOf(patterns: NamePatterns): string {
  return JSON.stringify([patterns.names.toSorted(), patterns.exclude.toSorted()]);
}

function samePatterns(some: readonly NamePatterns[], others: readonly NamePatterns[]): boolean {
  return some.map(keyOf).sort().join() === others.map(keyOf).sort().join();
}

// A Secret under a former name goes when the new one holds all that is still wanted.
function formerWrites(plan: NamespacePlan, observed: ObservedNamespace): Write[] {
  return observed.formerSecrets
    .filter((former) => former.isOurs && [...(former.hosts?.keys() ?? [])].every(isElsewhereOrGone))
    .flatMap((former): Write[] => [
      ...(observed.serviceAccounts ?? [])
        .filter(({ name, entries }) => entries.includes(former.name) && isServedBy(former, name))
        .map((serviceAccount) => ({ kind: 'RemoveEntry' as const, serviceAccount, secretName: former.name })),
      { kind: 'DeleteSecret', observed: former },
    ]);

  function isElsewhereOrGone(host: string): boolean {
    return observed.secret?.hosts?.has(host) === true || (!plan.entries.has(host) && !isHeld(plan.held, host));
  }
}

function isServedBy(former: ObservedSecret, name: string): boolean {
  return former.patterns.some((patterns) => matchesName(patterns, name));
}
