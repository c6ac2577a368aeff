import { annotations, dockerConfigKey, dockerConfigType, fieldManager, labels } from '../api/groupVersion.ts';
import type { ObservedSecret, ObservedServiceAccount, Write } from '../core/diffNamespace.ts';
import { dockerConfigJson, hashOfEntry, parseDockerConfigJson, type DockerAuth } from '../core/dockerConfig.ts';
import { patchToAdd, patchToReleaseOwnership, patchToRemove, type JsonPatch } from '../core/imagePullSecrets.ts';
import { ConfigurationError, ConflictError, GoneError } from '../errors.ts';
import { ApiStatusError } from '../kube/apiStatusError.ts';
import type { KubeClient } from '../kube/client.ts';
import type { BeforeSend } from '../kube/exchange.ts';
import type { KubeObject } from '../kube/kubeObject.ts';
import { reduceServiceAccount } from './observedObjects.ts';

export interface WriteContext {
  readonly client: Pick<KubeClient, 'request'>;
  readonly namespace: string;
  readonly secretName: string;
  /** Throws StoppedError where the lease may be somebody else's; its signal ends with the lease. */
  readonly beforeSend: BeforeSend;
  /** Resolves when the watch has shown our own write, or after a while. */
  readonly seen: (kind: 'Secret' | 'ServiceAccount', name: string, resourceVersion: string) => Promise<void>;
  /** The same of a deletion: the watch no longer shows the Secret at this resourceVersion. */
  readonly seenGone: (secretName: string, resourceVersion: string) => Promise<void>;
  /** Told when an immutable Secret of ours had to be made anew. */
  readonly recreated: (name: string) => void;
}

export interface WriteResult {
  /** Requests that changed something. */
  readonly written: number;
  /** Those that came through and changed something. */
  readonly done: readonly Write[];
  readonly errors: readonly unknown[];
}

/**
 * Carries out the writes of one namespace in their order and knows no policy. Each is tried; but no entry is made for a
 * Secret that could not be made, and no Secret is deleted while an entry for it is left.
 */
export async function applyWrites(writes: readonly Write[], context: WriteContext): Promise<WriteResult> {
  const errors: unknown[] = [];
  const failed = new Set<Write['kind']>();
  const done: Write[] = [];
  let written = 0;
  for (const write of writes) {
    if (isPointless(write, failed)) continue;
    try {
      const requests = await carryOut(write, context);
      written += requests;
      if (requests > 0) done.push(write);
    } catch (error) {
      failed.add(write.kind);
      if (!isGone(error, write)) errors.push(error);
    }
  }
  return { written, done, errors };
}

function isPointless(write: Write, failed: ReadonlySet<Write['kind']>): boolean {
  if (write.kind === 'AddEntry') return failed.has('ApplySecret');
  return write.kind === 'DeleteSecret' && failed.has('RemoveEntry');
}

// A ServiceAccount that is deleted meanwhile needs nothing.
function isGone(error: unknown, write: Write): boolean {
  return error instanceof ApiStatusError && error.status === 404 && write.kind !== 'ApplySecret';
}

function carryOut(write: Write, context: WriteContext): Promise<number> {
  switch (write.kind) {
    case 'ApplySecret':
      return applySecret(write, context);
    case 'AddEntry':
      return editEntries(
        write.serviceAccount,
        (now) => (now.isIgnored ? null : patchToAdd(now, context.secretName)),
        context,
      );
    case 'RemoveEntry':
      return editEntries(write.serviceAccount, (now) => patchToRemove(now, write.secretName), context);
    case 'ReleaseOwnership':
      return releaseOwnership(write.serviceAccount, context);
    case 'DeleteSecret':
      return deleteSecret(write.observed, context);
  }
}

async function applySecret(write: Extract<Write, { kind: 'ApplySecret' }>, context: WriteContext): Promise<number> {
  const entries = new Map<string, DockerAuth>(write.entries);
  if (write.keeps && write.observed) {
    for (const [host, entry] of await publishedEntries(write.observed, context)) {
      if (!entries.has(host) && write.keeps(host)) entries.set(host, entry);
    }
  }
  const body = secretBody(entries, write, context);
  try {
    return await sendSecret(body, write.observed, context);
  } catch (error) {
    if (write.observed && isImmutable(error)) {
      return recreate(secretBody(entries, { ...write, observed: null }, context), write.observed, context);
    }
    throw explained(error, context);
  }
}

async function sendSecret(body: SecretBody, observed: ObservedSecret | null, context: WriteContext): Promise<number> {
  const precondition = observed ? { uid: observed.uid, resourceVersion: observed.resourceVersion } : {};
  // Unforced where none is observed: a conflict then means that somebody else's is there.
  const answer = await context.client.request<KubeObject>({
    method: 'PATCH',
    patch: 'apply',
    path: secretPath(context, context.secretName),
    query: { fieldManager, ...(observed && { force: 'true' }) },
    body: { ...body, metadata: { ...body.metadata, ...precondition } },
    metadataOnly: true,
    beforeSend: context.beforeSend,
  });
  await context.seen('Secret', context.secretName, answer.metadata.resourceVersion ?? '');
  return 1;
}

// Only for one that somebody has made immutable: its UID is lost, and with it what kubelets remember of it (KEP-2535).
async function recreate(body: SecretBody, observed: ObservedSecret, context: WriteContext): Promise<number> {
  await sendDeletion(observed, context); // not waited for: until it is there again, nobody can pull
  const written = await sendSecret(body, null, context);
  context.recreated(observed.name);
  return written + 1;
}

async function publishedEntries(
  observed: ObservedSecret,
  context: WriteContext,
): Promise<ReadonlyMap<string, DockerAuth>> {
  const secret = await context.client.request<KubeObject & { data?: Record<string, string> }>({
    method: 'GET',
    path: secretPath(context, observed.name),
  });
  if (secret.metadata.uid !== observed.uid) throw changedMeanwhile(context);
  const text = secret.data?.[dockerConfigKey] ?? '';
  return parseDockerConfigJson(Buffer.from(text, 'base64').toString());
}

interface SecretBody {
  readonly metadata: object;
}

function secretBody(
  entries: ReadonlyMap<string, DockerAuth>,
  { patterns, observed }: Pick<Extract<Write, { kind: 'ApplySecret' }>, 'patterns' | 'observed'>,
  { namespace, secretName }: WriteContext,
): SecretBody {
  const hashes = [...entries].map(([host, entry]) => [host, hashOf(entry)] as const);
  return {
    ...{ apiVersion: 'v1', kind: 'Secret', type: dockerConfigType },
    // An apply that changes nothing would pass on one that is immutable; this one is refused, and it is made anew.
    ...(observed?.mayBeImmutable && { immutable: false }),
    metadata: {
      name: secretName,
      namespace,
      labels: { [labels.managedBy]: fieldManager, [labels.excludeFromBackup]: 'true' },
      annotations: {
        [annotations.hosts]: JSON.stringify(Object.fromEntries(hashes.toSorted(([a], [b]) => (a < b ? -1 : 1)))),
        [annotations.serviceAccounts]: JSON.stringify(patterns),
      },
    },
    ...{ data: { [dockerConfigKey]: Buffer.from(dockerConfigJson(entries)).toString('base64') } },
  };
}

function hashOf(entry: DockerAuth & { hash?: string }): string {
  return entry.hash ?? hashOfEntry({ auth: entry.auth });
}

async function deleteSecret(observed: ObservedSecret, context: WriteContext): Promise<number> {
  await sendDeletion(observed, context);
  await context.seenGone(observed.name, observed.resourceVersion);
  return 1;
}

async function sendDeletion(observed: ObservedSecret, context: WriteContext): Promise<void> {
  await context.client.request({
    method: 'DELETE',
    path: secretPath(context, observed.name),
    body: {
      ...{ apiVersion: 'v1', kind: 'DeleteOptions' },
      preconditions: { uid: observed.uid, resourceVersion: observed.resourceVersion },
    },
    beforeSend: context.beforeSend,
  });
}

const EDIT_TRIES = 4;

// A failed test means that somebody has written in between: read again, decide again.
async function editEntries(
  observed: ObservedServiceAccount,
  decide: (now: ObservedServiceAccount) => JsonPatch | null,
  context: WriteContext,
): Promise<number> {
  let now = observed;
  for (let tries = 1; ; tries++) {
    const patch = decide(now);
    if (!patch) return 0;
    try {
      const edited = await patchServiceAccount(now.name, patch, context);
      return edited.ownedAt === null ? 1 : 1 + (await releaseOwnership(edited, context));
    } catch (error) {
      if (!(error instanceof ConflictError) || tries === EDIT_TRIES) throw error;
      const { resourceVersion } = now;
      now = await readServiceAccount(observed.name, context);
      if (now.resourceVersion === resourceVersion) throw error; // nobody has: it is refused for another reason
    }
  }
}

// Without this, the next apply of whoever applies this ServiceAccount would fail with a conflict.
async function releaseOwnership(observed: ObservedServiceAccount, context: WriteContext): Promise<number> {
  if (observed.ownedAt === null) return 0;
  const patch = patchToReleaseOwnership(observed, observed.ownedAt, fieldManager);
  await patchServiceAccount(observed.name, patch, context);
  return 1;
}

async function patchServiceAccount(
  name: string,
  patch: JsonPatch,
  context: WriteContext,
): Promise<ObservedServiceAccount> {
  const answer = await context.client.request<KubeObject>({
    method: 'PATCH',
    patch: 'json',
    path: serviceAccountPath(context, name),
    query: { fieldManager },
    body: patch,
    beforeSend: context.beforeSend,
  });
  await context.seen('ServiceAccount', name, answer.metadata.resourceVersion ?? '');
  return reduceServiceAccount(answer);
}

async function readServiceAccount(name: string, context: WriteContext): Promise<ObservedServiceAccount> {
  const path = serviceAccountPath(context, name);
  return reduceServiceAccount(await context.client.request<KubeObject>({ method: 'GET', path }));
}

/** Of one Secret, in the API. */
export function secretPath({ namespace }: Pick<WriteContext, 'namespace'>, name: string): string {
  return `/api/v1/namespaces/${namespace}/secrets/${name}`;
}

/** Of one ServiceAccount, in the API. */
export function serviceAccountPath({ namespace }: Pick<WriteContext, 'namespace'>, name: string): string {
  return `/api/v1/namespaces/${namespace}/serviceaccounts/${name}`;
}

const IMMUTABLE_FIELDS: ReadonlySet<string> = new Set(['data', 'immutable']);

function isImmutable(error: unknown): boolean {
  return (
    error instanceof ApiStatusError &&
    error.status === 422 &&
    error.causes.some(({ field, message = '' }) => IMMUTABLE_FIELDS.has(field ?? '') && /immutable/.test(message))
  );
}

// What the API server's refusal of our apply means.
function explained(error: unknown, context: WriteContext): unknown {
  if (!(error instanceof ApiStatusError)) return error;
  if (error.status === 404) return new GoneError('NamespaceGone', `the namespace ${context.namespace} is gone`);
  if (error.causes.some((cause) => cause.reason === 'FieldManagerConflict')) return foreignSecret(context);
  const [cause] = error.causes;
  if (error.status === 422 && cause?.field === 'metadata.uid') return changedMeanwhile(context);
  if (error.status === 422 && cause?.field === 'type') return wrongType(context);
  return error;
}

/** A Secret of our name that is somebody else's, and how it is handed over. */
export function foreignSecret({
  namespace,
  secretName,
}: {
  namespace: string;
  secretName: string;
}): ConfigurationError {
  return new ConfigurationError(
    'ForeignSecret',
    `the Secret ${namespace}/${secretName} is not ours and stays as it is; to hand it over: kubectl -n ${namespace} label --overwrite secret ${secretName} ${labels.managedBy}=${fieldManager} (one of another type than kubernetes.io/dockerconfigjson must be deleted instead)`,
  );
}

function wrongType({ namespace, secretName }: WriteContext): ConfigurationError {
  return new ConfigurationError(
    'WrongSecretType',
    `the Secret ${namespace}/${secretName} was handed over but has another type, which cannot be changed: kubectl -n ${namespace} delete secret ${secretName}`,
  );
}

function changedMeanwhile({ namespace, secretName }: WriteContext): ConflictError {
  return new ConflictError('Conflict', `the Secret ${namespace}/${secretName} was made anew meanwhile`);
}
