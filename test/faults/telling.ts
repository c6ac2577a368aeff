import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { waitForCondition, type Condition } from '../cluster/served.ts';
import type { Night } from './night.ts';

export interface Telling {
  /** It is false, for this reason, and its message names cause, object and remedy. */
  condition: { type: 'Ready' | 'Refreshed'; reason: string; message: RegExp };
  metric?: Counted;
}

/** A sample of the metrics, and what it has to exceed in the sum of all replicas. */
export interface Counted {
  sample: string;
  above: number;
}

/** By when what goes wrong has to be told (ms), and by when that it does no more. */
export const toldWithinMs = 30_000;

interface ToldEvent extends KubeObject {
  type: string;
  reason: string;
  note: string;
  action?: string;
  eventTime?: string; // of the first
}

/** Of all replicas that run: the leader counts what it tries, and who leads may change. */
export async function sumOf({ replicas }: Night, sample: string): Promise<number> {
  const values = await Promise.all(replicas.map(({ operator }) => operator.metric(sample)));
  return values.reduce<number>((sum, value) => sum + (value ?? 0), 0);
}

/** Who cannot renew the lease stops by its deadline, ten seconds after the last renewal. */
export async function nobodyLeads(night: Night): Promise<void> {
  await eventually('nobody leads', async () => (await sumOf(night, 'ecr_pull_secrets_leader')) === 0, 12_000);
}

/** Condition, event and metric name what goes wrong, all of them within this time (ms). The condition. */
export async function isTold(night: Night, told: Telling, withinMs = toldWithinMs): Promise<Condition> {
  const by = performance.now() + withinMs;
  const leftMs = () => Math.max(0, by - performance.now());
  const { type, reason, message } = told.condition;
  const isIt = (condition: Condition) =>
    condition.status === 'False' && condition.reason === reason && message.test(condition.message);
  const condition = await waitForCondition(night.admin, type, isIt, { timeoutMs: leftMs() });
  await eventually(`an event names ${reason}`, () => isInEvents(night, condition, message), leftMs());
  if (told.metric !== undefined) await isCounted(night, told.metric, leftMs());
  return condition;
}

export async function isCounted(night: Night, { sample, above }: Counted, withinMs = toldWithinMs): Promise<void> {
  const isMore = async () => {
    const value = await sumOf(night, sample);
    if (value <= above) throw new Error(`${sample} is ${value}, no more than ${above}`);
    return true;
  };
  await eventually('a metric tells', isMore, withinMs);
}

/** And its end is told, too. */
export async function isToldNoMore(night: Night, type: 'Ready' | 'Refreshed'): Promise<void> {
  await waitForCondition(night.admin, type, ({ status }) => status === 'True', { timeoutMs: toldWithinMs });
}

// Events of what has no namespace are in `default`. One that came before with the same words counts again half a minute
// later, so it is looked for by its words; one of this fault may have others, where the condition has learnt more since.
async function isInEvents(
  { admin, markedAt }: Night,
  { type, reason, message }: Condition,
  meant: RegExp,
): Promise<boolean> {
  const query = { fieldSelector: 'regarding.kind=ClusterECRPullSecret,regarding.name=production' };
  const events = await admin.list<ToldEvent>('/apis/events.k8s.io/v1/namespaces/default/events', query);
  const isOfNow = ({ note, eventTime = '' }: ToldEvent) => meant.test(note) && Date.parse(eventTime) >= markedAt;
  const isIt = (event: ToldEvent) =>
    event.type === 'Warning' &&
    event.reason === reason &&
    event.action === type &&
    (event.note === message || isOfNow(event));
  return events.some(isIt);
}
