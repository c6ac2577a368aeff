import { diffNamespace, type NamespaceDiff, type ObservedNamespace, type Write } from '../core/diffNamespace.ts';
import type { NamespaceView } from '../core/namespaceSelection.ts';
import { planNamespace, type NamespacePlan, type Resources, type TokenState } from '../core/planNamespace.ts';
import { matchesName } from '../core/glob.ts';
import { applyWrites, foreignSecret, type WriteContext } from './applyWrites.ts';
import type { NamespaceState } from './namespaceOutcomes.ts';
import type { RepairBackoff } from './repairBackoff.ts';

export interface ReconcileContext {
  readonly secretName: string;
  readonly snapshot: (namespace: string) => { namespace: NamespaceView; observed: ObservedNamespace } | null;
  /** Takes what these would write to into the snapshot, where it is known that its watch is behind; whether it did. */
  readonly catchUp: (namespace: string, writes: readonly Write[]) => Promise<boolean>;
  readonly resources: () => Resources;
  readonly tokenOf: (resource: string, host: string) => TokenState;
  readonly hashOf: (auth: string) => string;
  readonly removals: {
    /** The namespace has something to remove: whether the delay is over and the view can be trusted, or when to ask again. */
    mayRemove(namespace: string): Promise<{ mayRemove: true } | { mayRemove: false; retryMs: number }>;
    /** Nothing is to be removed (any more). */
    settled(namespace: string): void;
    /** Our Secret was removed; how often it was lately, without one of our own in between. */
    removed(namespace: string): number;
    /** We have put our Secret there. */
    filled(namespace: string): void;
  };
  readonly repairs: RepairBackoff;
  readonly writeContext: (namespace: string) => WriteContext;
  /** Told of each repair, and how many of this object there have been lately. */
  readonly repaired: (write: Write, namespace: string, count: number) => void;
  /** Told where a Secret was removed that somebody else had put there again. */
  readonly cloneRemoved: (write: Extract<Write, { kind: 'DeleteSecret' }>, namespace: string) => void;
}

export interface ReconcileResult {
  /** null: the namespace is gone or on its way out. */
  readonly state: NamespaceState | null;
  readonly written: number;
  readonly errors: readonly unknown[];
  /** When to look again, ms, though nothing may have changed. */
  readonly requeueMs: number | null;
}

/** One run of one namespace: what should be there, what is, and the writes that make up the difference. */
export async function reconcileNamespace(name: string, context: ReconcileContext): Promise<ReconcileResult> {
  let view = await lookCloselyAt(name, context, false);
  if (!view) return { state: null, written: 0, errors: [], requeueMs: null };
  let requeueMs: number | null = null;
  if (view.diff.isRemovalPending) {
    const answer = await context.removals.mayRemove(name);
    // What was seen before the wait may be old by now.
    view = (answer.mayRemove ? await lookCloselyAt(name, context, true) : lookAt(name, context, false)) ?? view;
    requeueMs = answer.mayRemove ? null : answer.retryMs;
  } else {
    context.removals.settled(name);
  }
  const { now, later } = splitByBackoff(view, name, context);
  const { written, done, errors } = await applyWrites(now, context.writeContext(name));
  noteRepairs(done, { namespace: name, plan: view.plan, context });
  noteRemovals(done, name, context);
  forgetRemoved(now, name, context);
  if (errors.length === 0) noteServed(view, name, context);
  return { state: stateOf(view, name, context), written, errors, requeueMs: earliest(requeueMs, later) };
}

interface View {
  readonly plan: NamespacePlan | null;
  readonly observed: ObservedNamespace;
  readonly diff: NamespaceDiff;
}

// Nothing is written on a view that is known to be old: what is there may be right.
async function lookCloselyAt(name: string, context: ReconcileContext, mayRemove: boolean): Promise<View | null> {
  const view = lookAt(name, context, mayRemove);
  return view && (await context.catchUp(name, view.diff.writes)) ? lookAt(name, context, mayRemove) : view;
}

function lookAt(name: string, context: ReconcileContext, mayRemove: boolean): View | null {
  const snapshot = context.snapshot(name);
  if (!snapshot) return null;
  const plan = planNamespace(snapshot.namespace, context.resources(), context.tokenOf, context.hashOf);
  const { observed } = snapshot;
  const diff = diffNamespace(plan, observed, { secretName: context.secretName, mayRemove });
  return plan ? { plan, observed, diff } : null;
}

function stateOf({ plan, observed, diff }: View, namespace: string, context: ReconcileContext): NamespaceState | null {
  if (!plan) return null;
  if (diff.isBlocked) {
    return { kind: 'Blocked', message: foreignSecret({ namespace, secretName: context.secretName }).message };
  }
  const isServed = observed.secret !== null || plan.entries.size > 0;
  return isServed ? { kind: 'Ready' } : { kind: 'Waiting' };
}

// A repair of what somebody undoes again and again waits its turn; everything else is done now.
function splitByBackoff(
  { plan, diff }: View,
  namespace: string,
  context: ReconcileContext,
): { now: Write[]; later: number | null } {
  const now: Write[] = [];
  let later: number | null = null;
  for (const write of diff.writes) {
    const key = repairKey(write, namespace, plan);
    const delay = key === null ? 0 : context.repairs.delayMs(key);
    if (delay > 0) {
      later = earliest(later, delay);
      continue;
    }
    now.push(write);
  }
  return { now, later };
}

// Only of what came through: one that is refused is a failure, and no fight with another writer.
function noteRepairs(
  done: readonly Write[],
  { namespace, plan, context }: { namespace: string; plan: NamespacePlan | null; context: ReconcileContext },
): void {
  for (const write of done) {
    const key = repairKey(write, namespace, plan);
    if (key === null || !context.repairs.isRepair(key)) continue;
    context.repaired(write, namespace, context.repairs.repaired(key));
  }
}

// A write that only puts back what we have made before is a repair; one with new content is not.
function repairKey(write: Write, namespace: string, plan: NamespacePlan | null): string | null {
  if (write.kind === 'AddEntry') return entryKey(namespace, write.serviceAccount.name);
  if (write.kind !== 'ApplySecret' || !plan) return null;
  const hosts = write.observed?.hosts;
  const isSameContent = !hosts || [...plan.entries].every(([host, entry]) => hosts.get(host) === entry.hash);
  return isSameContent ? secretKey(namespace) : null;
}

function noteServed({ plan, observed, diff }: View, namespace: string, context: ReconcileContext): void {
  if (!plan || diff.isRemovalPending) return;
  if (plan.entries.size > 0 && !diff.isBlocked) context.repairs.served(secretKey(namespace));
  for (const { name, isIgnored } of observed.serviceAccounts ?? []) {
    const isDesired = !isIgnored && plan.serviceAccounts.some((patterns) => matchesName(patterns, name));
    if (isDesired && plan.entries.size > 0) context.repairs.served(entryKey(namespace, name));
  }
}

// A Secret that is there again after its removal, and was not put there by us, is somebody's clone.
function noteRemovals(done: readonly Write[], namespace: string, context: ReconcileContext): void {
  for (const write of done) {
    if (write.kind === 'ApplySecret') context.removals.filled(namespace);
    if (write.kind !== 'DeleteSecret') continue;
    if (context.removals.removed(namespace) > 1) context.cloneRemoved(write, namespace);
  }
}

// What we took away ourselves and put back later is no repair.
function forgetRemoved(writes: readonly Write[], namespace: string, { repairs }: ReconcileContext): void {
  for (const write of writes) {
    if (write.kind === 'RemoveEntry') repairs.forget(entryKey(namespace, write.serviceAccount.name));
    if (write.kind === 'DeleteSecret') repairs.forget(secretKey(namespace));
  }
}

export function secretKey(namespace: string): string {
  return `${namespace}/`;
}

export function entryKey(namespace: string, serviceAccount: string): string {
  return `${namespace}/${serviceAccount}`;
}

function earliest(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
