import type { AuditEvent } from '../../cluster/auditLog.ts';
import type { KubeObject } from '../../cluster/kubeApi.ts';
import type { Version } from './history.ts';

/** A version, the one before it (null: there was none), and whether the operator made it. */
export interface Step {
  before: Version | null;
  after: Version;
  isOurs: boolean;
}

/**
 * The history of each object step by step. Whose a step is, the operator's audit events tell, at level RequestResponse: each
 * answer has the resourceVersion that the write made. A deletion has none: it is the operator's where it deleted that uid.
 */
export function stepsOf(versions: readonly Version[], ofOperator: readonly AuditEvent[]): Step[] {
  const made = new Set<string>();
  for (const { verb, objectRef, responseStatus, responseObject } of ofOperator) {
    const isDone = (responseStatus?.code ?? 0) >= 200 && (responseStatus?.code ?? 0) < 300;
    if (!isDone || verb === 'get' || verb === 'list' || verb === 'watch') continue;
    const key = `${objectRef?.resource} ${objectRef?.namespace}/${objectRef?.name}`;
    if (verb === 'delete') made.add(`${key} gone ${uidIn(responseObject)}`);
    else made.add(`${key} at ${(responseObject as KubeObject | undefined)?.metadata?.resourceVersion}`);
  }
  const last = new Map<string, Version>();
  return versions.map((after) => {
    const { collection, key, type, object } = after;
    const at = type === 'DELETED' ? `gone ${object.metadata.uid}` : `at ${object.metadata.resourceVersion}`;
    const before = last.get(`${collection} ${key}`) ?? null;
    last.set(`${collection} ${key}`, after);
    return {
      before: before?.type === 'DELETED' ? null : before,
      after,
      isOurs: made.has(`${collection} ${key} ${at}`),
    };
  });
}

/** A deletion is answered with the object or with a Status that has the uid in its details. */
function uidIn(answer: unknown): string {
  const { details, metadata } = (answer ?? {}) as { details?: { uid?: string }; metadata?: { uid?: string } };
  return details?.uid ?? metadata?.uid ?? '';
}
