import type { Condition, Status } from '../api/clusterEcrPullSecret.ts';

/** Condition types, and the reasons that are not an error's code. */
export const conditionTypes = {
  ready: 'Ready',
  refreshed: 'Refreshed',
  reconciling: 'Reconciling',
  stalled: 'Stalled',
  blocked: 'Blocked',
  unguarded: 'Unguarded',
} as const;

export interface Problem {
  readonly code: string;
  readonly message: string;
}

export interface RegistryFacts {
  readonly host: string;
  readonly region: string;
  readonly state: 'usable' | 'expired' | 'unknown';
  readonly expiresAt: Date | null;
  readonly lastRefreshTime: Date | null;
  readonly nextRefreshTime: Date | null;
  /** Why the last refresh or check failed; null after a success. */
  readonly failure: Problem | null;
  /** What else a person should know, e.g. that another resource provides this host. */
  readonly note: string | null;
}

export interface NamespaceFacts {
  readonly matched: number;
  readonly ready: number;
  /** Neither ready nor failed, and younger than a minute: they do not end a Ready that there was. */
  readonly young: number;
  readonly blocked: readonly { namespace: string; message: string }[];
  readonly failed: readonly { namespace: string; message: string }[];
}

/** All that the status of one resource is made of. */
export interface ResourceFacts {
  readonly generation: number;
  readonly isSuspended: boolean;
  /** The spec is refused: the user must change it. */
  readonly specProblem: Problem | null;
  readonly missingPermissions: readonly string[]; // "patch serviceaccounts"
  readonly isGuarded: boolean;
  readonly registries: readonly RegistryFacts[];
  readonly namespaces: NamespaceFacts;
}

const FAILURES_SHOWN = 10;

/** The status to publish. `previous` gives the times of transitions: equal facts give an equal status. */
export function statusOf(facts: ResourceFacts, previous: Status | undefined, now: Date): Status {
  const wasReady =
    previous?.conditions?.some(({ type, status }) => type === conditionTypes.ready && status === 'True') ?? false;
  const drafts = conditionsOf(facts, wasReady);
  const conditions = drafts.map((condition) => withTransition(condition, facts, { previous, now }));
  const { namespaces, registries } = facts;
  const nextRefreshTime = facts.isSuspended ? null : earliest(registries.map((registry) => registry.nextRefreshTime));
  return {
    observedGeneration: facts.generation,
    conditions,
    namespacesReady: `${namespaces.ready}/${namespaces.matched}`,
    ...(nextRefreshTime && { nextRefreshTime: timestamp(nextRefreshTime) }),
    ...(facts.specProblem ? keptRegistries(previous) : registriesStatus(registries)),
    failures: [...namespaces.failed, ...namespaces.blocked].slice(0, FAILURES_SHOWN),
  };
}

type Draft = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>;

function conditionsOf(facts: ResourceFacts, wasReady: boolean): Draft[] {
  const { blocked } = facts.namespaces;
  const waiting = waitingCount(facts.namespaces);
  const isActive = !facts.isSuspended && !facts.specProblem;
  const optional: (Draft | false)[] = [
    isActive &&
      waiting > 0 && {
        type: conditionTypes.reconciling,
        status: 'True',
        reason: 'Progressing',
        message: `${waiting} of ${count(facts.namespaces.matched, 'namespace')} not served yet`,
      },
    facts.specProblem !== null && {
      type: conditionTypes.stalled,
      status: 'True',
      reason: facts.specProblem.code,
      message: facts.specProblem.message,
    },
    blocked.length > 0 && {
      type: conditionTypes.blocked,
      status: 'True',
      reason: 'ForeignSecret',
      message: listed(blocked, facts.namespaces.matched),
    },
    !facts.isGuarded && {
      type: conditionTypes.unguarded,
      status: 'True',
      reason: 'PolicyMissing',
      message:
        'the ValidatingAdmissionPolicy ecr-pull-secrets does not bind this operator: install the policy and its binding from the chart',
    },
  ];
  return [readyCondition(facts, wasReady), refreshedCondition(facts), ...optional.filter((draft) => draft !== false)];
}

function readyCondition(facts: ResourceFacts, wasReady: boolean): Draft {
  const ready = (status: Draft['status'], reason: string, message: string): Draft => ({
    type: conditionTypes.ready,
    status,
    reason,
    message,
  });
  if (facts.specProblem) return ready('False', facts.specProblem.code, facts.specProblem.message);
  if (facts.isSuspended)
    return ready('Unknown', 'Suspended', 'suspended: what is published stays, nothing is refreshed');
  const obstacle = whyNotReady(facts, wasReady);
  if (obstacle) return ready('False', obstacle.code, obstacle.message);
  const { matched, ready: served } = facts.namespaces;
  if (matched === 0)
    return ready(
      'True',
      'NoNamespaceMatches',
      'no namespace matches spec.namespaces: look at its selector, names and exclude',
    );
  return ready('True', 'Ready', `${count(facts.registries.length, 'registry')} in ${count(served, 'namespace')}`);
}

// A namespace that has just come is no reason to leave Ready, but none to become it either.
function whyNotReady(facts: ResourceFacts, wasReady: boolean): Problem | null {
  const { missingPermissions, registries, namespaces } = facts;
  if (missingPermissions.length) {
    return {
      code: 'MissingPermission',
      message: `the operator's ServiceAccount may not ${missingPermissions.join(', ')}: give it the ClusterRole of the chart`,
    };
  }
  const registry = registries.find((candidate) => candidate.state !== 'usable');
  if (registry) return whyNotUsable(registry);
  if (namespaces.failed.length) {
    return { code: 'NamespacesFailed', message: listed(namespaces.failed, namespaces.matched) };
  }
  const waiting = waitingCount(namespaces);
  if (waiting > (wasReady ? namespaces.young : 0)) {
    return { code: 'Progressing', message: `${waiting} of ${count(namespaces.matched, 'namespace')} not served yet` };
  }
  return null;
}

function whyNotUsable(registry: RegistryFacts): Problem {
  if (registry.state === 'expired') {
    const cause = registry.failure ? `: ${registry.failure.message}` : '';
    return { code: 'Expired', message: `the token of ${registry.host} has expired${cause}` };
  }
  if (registry.failure === null) return { code: 'Pending', message: `no token for ${registry.host} yet` };
  return { code: registry.failure.code, message: `${registry.host}: ${registry.failure.message}` };
}

function refreshedCondition(facts: ResourceFacts): Draft {
  const refreshed = (status: Draft['status'], reason: string, message: string): Draft => ({
    type: conditionTypes.refreshed,
    status,
    reason,
    message,
  });
  if (facts.specProblem) return refreshed('Unknown', facts.specProblem.code, 'the spec is refused');
  const expired = facts.registries.find((registry) => registry.state === 'expired');
  if (expired) return refreshed('False', 'Expired', whyNotUsable(expired).message);
  const failing = facts.registries.filter((registry) => registry.failure !== null);
  const [first] = failing;
  if (first?.failure) {
    const others = failing.length > 1 ? ` (and ${failing.length - 1} more)` : '';
    return refreshed('False', first.failure.code, `${first.host}: ${first.failure.message}${others}`);
  }
  if (facts.registries.some((registry) => registry.state === 'unknown')) {
    return refreshed('Unknown', 'Pending', 'the first token is being asked for');
  }
  return refreshed('True', 'Refreshed', 'every token is good');
}

function waitingCount({ matched, ready, blocked, failed }: NamespaceFacts): number {
  return Math.max(0, matched - ready - blocked.length - failed.length);
}

function listed(failures: readonly { namespace: string; message: string }[], matched: number): string {
  const [first] = failures;
  const example = first ? `: ${first.namespace}: ${first.message}` : '';
  return `${failures.length} of ${count(matched, 'namespace')}${example}`;
}

function count(n: number, noun: 'namespace' | 'registry'): string {
  if (n === 1) return `1 ${noun}`;
  return noun === 'registry' ? `${n} registries` : `${n} namespaces`;
}

function withTransition(
  draft: Draft,
  { generation }: ResourceFacts,
  { previous, now }: { previous: Status | undefined; now: Date },
): Condition {
  const before = previous?.conditions?.find((condition) => condition.type === draft.type);
  const lastTransitionTime = before?.status === draft.status ? before.lastTransitionTime : timestamp(now);
  return { ...draft, observedGeneration: generation, lastTransitionTime };
}

type RegistriesStatus = Pick<Status, 'registryCount' | 'expiresAt' | 'registries'>;

function registriesStatus(registries: readonly RegistryFacts[]): RegistriesStatus {
  const expiresAt = earliest(registries.map((registry) => registry.expiresAt));
  return {
    registryCount: registries.length,
    ...(expiresAt && { expiresAt: timestamp(expiresAt) }),
    registries: registries.map(registryStatus),
  };
}

// What is published under a refused spec comes of the last good one. An operator that starts meanwhile knows it from here.
function keptRegistries(previous: Status | undefined): RegistriesStatus {
  const registries = (previous?.registries ?? []).map(({ nextRefreshTime: _nextRefreshTime, ...kept }) => kept);
  return {
    registryCount: registries.length,
    ...(previous?.expiresAt !== undefined && { expiresAt: previous.expiresAt }),
    registries,
  };
}

function registryStatus(registry: RegistryFacts): NonNullable<Status['registries']>[number] {
  const message = registry.failure?.message ?? registry.note;
  return {
    host: registry.host,
    region: registry.region,
    ...(registry.expiresAt && { expiresAt: timestamp(registry.expiresAt) }),
    ...(registry.lastRefreshTime && { lastRefreshTime: timestamp(registry.lastRefreshTime) }),
    ...(registry.nextRefreshTime && { nextRefreshTime: timestamp(registry.nextRefreshTime) }),
    ...(message !== null && { message }),
  };
}

function earliest(dates: readonly (Date | null)[]): Date | null {
  return dates.reduce((best, date) => (date && (!best || date < best) ? date : best), null);
}

/** RFC 3339 in seconds, as Kubernetes writes times. */
export function timestamp(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}
