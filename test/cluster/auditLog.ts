import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** What the API server writes for each request (audit.k8s.io/v1; level Metadata unless told: no bodies). */
export interface AuditEvent {
  stage: 'RequestReceived' | 'ResponseStarted' | 'ResponseComplete' | 'Panic';
  auditID: string;
  requestURI: string;
  verb: string; // get, list, watch, create, update, patch, delete, deletecollection
  user: { username: string };
  userAgent?: string;
  objectRef?: { resource: string; namespace?: string; name?: string; apiGroup?: string; subresource?: string };
  responseStatus?: { code: number; reason?: string };
  /** What was answered, where an audit policy of level RequestResponse is given. */
  responseObject?: unknown;
  requestReceivedTimestamp: string;
  stageTimestamp: string;
}

export interface AuditFilter {
  user?: string;
  verb?: string | readonly string[];
  resource?: string; // plural, as in the path; a subresource is `pods/status`
  namespace?: string;
  name?: string;
  code?: number;
  /** From `mark()`: only what was written later. */
  since?: number;
  /** ResponseComplete unless told; a watch that is still open has RequestReceived and ResponseStarted only. */
  stage?: AuditEvent['stage'];
}

/** The verbs that change something. */
export const writeVerbs = ['create', 'update', 'patch', 'delete', 'deletecollection'] as const;

/**
 * Everybody's requests but the API server's own, and of the components of the control plane only what they write.
 * Without the two stages at the start a request that was cut off would not be seen.
 */
export const defaultAuditPolicy = JSON.stringify({
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  rules: [
    { level: 'None', users: ['system:apiserver', 'system:kube-scheduler', 'system:node:node1'] },
    { level: 'None', users: ['system:kube-controller-manager'], verbs: ['get', 'list', 'watch'] },
    { level: 'Metadata' },
  ],
});

/** Reads an audit log as it grows; what was read stays parsed. */
export class AuditLog {
  readonly #file: string;
  readonly #events: AuditEvent[] = [];
  #offset = 0;

  constructor(file: string) {
    this.#file = file;
  }

  events(filter: AuditFilter = {}): AuditEvent[] {
    this.#readOn();
    return this.#events.slice(filter.since ?? 0).filter((event) => matches(event, filter));
  }

  /** Where the log ends now, for `since`. */
  mark(): number {
    this.#readOn();
    return this.#events.length;
  }

  #readOn(): void {
    let file: number;
    try {
      file = openSync(this.#file, 'r');
    } catch {
      return; // nothing has been asked yet
    }
    try {
      const bytes = Buffer.alloc(fstatSync(file).size - this.#offset);
      readSync(file, bytes, 0, bytes.length, this.#offset);
      const end = bytes.lastIndexOf(0x0a) + 1; // the last line may still be in the writing
      this.#offset += end;
      for (const line of bytes.toString('utf8', 0, end).split('\n')) {
        if (line !== '') this.#events.push(JSON.parse(line) as AuditEvent);
      }
    } finally {
      closeSync(file);
    }
  }
}

function matches(event: AuditEvent, filter: AuditFilter): boolean {
  const { objectRef } = event;
  const resource = objectRef && objectRef.resource + (objectRef.subresource ? `/${objectRef.subresource}` : '');
  const verbs = typeof filter.verb === 'string' ? [filter.verb] : filter.verb;
  return (
    event.stage === (filter.stage ?? 'ResponseComplete') &&
    (verbs === undefined || verbs.includes(event.verb)) &&
    isOrOpen(filter.user, event.user.username) &&
    isOrOpen(filter.resource, resource) &&
    isOrOpen(filter.namespace, objectRef?.namespace) &&
    isOrOpen(filter.name, objectRef?.name) &&
    isOrOpen(filter.code, event.responseStatus?.code)
  );
}

function isOrOpen<T>(wanted: T | undefined, value: T | undefined): boolean {
  return wanted === undefined || wanted === value;
}
