import { annotations, apiVersion, defaultSecretName, kind, resourcesPath } from '../../src/api/groupVersion.ts';
import { type AuditEvent, writeVerbs } from './auditLog.ts';
import type { Cluster } from './cluster.ts';
import { ecrHost } from './door.ts';
import { eventually } from './eventually.ts';
import { inParallel } from './inParallel.ts';
import type { KubeApi, KubeObject } from './kubeApi.ts';
import { operatorUser } from './operator.ts';

export interface Condition {
  type: string;
  status: string;
  reason: string;
  message: string;
}

export interface PullSecretResource extends KubeObject {
  spec: Record<string, unknown>;
  status?: {
    conditions?: Condition[];
    namespacesReady?: string;
    expiresAt?: string;
    failures?: { namespace: string; message: string }[];
    registries?: { host: string; message?: string }[];
  };
}

/** The smallest resource: one host, every namespace but the cluster's own, the default ServiceAccount. */
export function resource(name = 'production', spec: Record<string, unknown> = {}): PullSecretResource {
  const namespaces = { exclude: ['kube-*', 'default', 'ecr-pull-secrets'] };
  return {
    ...{ apiVersion, kind, metadata: { name } },
    spec: { registries: [{ host: ecrHost }], namespaces, ...spec },
  };
}

export function resourcePath(name = 'production'): string {
  return `${resourcesPath}/${name}`;
}

export function secretPath(namespace: string, name: string = defaultSecretName): string {
  return `/api/v1/namespaces/${namespace}/secrets/${name}`;
}

export function accountPath(namespace: string, name = 'default'): string {
  return `/api/v1/namespaces/${namespace}/serviceaccounts/${name}`;
}

/** `team-0`, `team-1` and so on, with their default ServiceAccounts. */
export async function createNamespaces(admin: KubeApi, count: number, prefix = 'team'): Promise<string[]> {
  const names = Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
  await inParallel(names, (name) => createNamespace(admin, name));
  return names;
}

/** One, with its default ServiceAccount, for which after an outage the controller manager has back-offs of its own. */
export async function createNamespace(admin: KubeApi, name: string): Promise<void> {
  await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  const body = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace: name } };
  const { status } = await admin.request('POST', `/api/v1/namespaces/${name}/serviceaccounts`, { body });
  if (status !== 201 && status !== 409) throw new Error(`the default ServiceAccount of ${name}: ${status}`);
}

/** Everything in the cluster that is ours by its name: `NAMESPACE` → its Secret, `NAMESPACE/ACCOUNT` → its entry. */
export async function footprint(admin: KubeApi): Promise<Map<string, KubeObject>> {
  const secrets = await admin.list('/api/v1/secrets', { fieldSelector: `metadata.name=${defaultSecretName}` });
  const accounts = await admin.list('/api/v1/serviceaccounts');
  const objects = [...secrets, ...accounts.filter(hasEntry)];
  return new Map(objects.map((object) => [keyOf(object), object] as const).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The same, to compare: what is equal was neither written nor made anew in between. */
export async function versions(admin: KubeApi): Promise<Record<string, string>> {
  const objects = await footprint(admin);
  return Object.fromEntries(
    [...objects].map(([key, { metadata }]) => [key, `${metadata.uid} at ${metadata.resourceVersion}`]),
  );
}

function keyOf({ kind, metadata }: KubeObject): string {
  // The items of a list have no kind of their own.
  const isSecret = kind === 'Secret' || metadata.name === defaultSecretName;
  return isSecret ? (metadata.namespace ?? '') : `${metadata.namespace}/${metadata.name}`;
}

export function entriesOf(account: KubeObject | null): string[] {
  const list = (account?.['imagePullSecrets'] ?? []) as { name: string }[];
  return list.map(({ name }) => name);
}

function hasEntry(account: KubeObject): boolean {
  return entriesOf(account).includes(defaultSecretName);
}

/** Waits until each of the namespaces has its Secret, and its default ServiceAccount the entry. */
export async function waitUntilServed(
  admin: KubeApi,
  namespaces: readonly string[],
  timeoutMs = 60_000,
): Promise<void> {
  await eventually(
    `${namespaces.length} namespaces are served`,
    async () => {
      const there = await footprint(admin);
      const missing = namespaces.filter((name) => !there.has(name) || !there.has(`${name}/default`));
      if (missing.length > 0) throw new Error(`missing: ${missing.join(', ').slice(0, 300)}`);
      return true;
    },
    timeoutMs,
  );
}

/** The hash of the entry of the one host that a Secret of ours holds, as its annotation tells. */
export function hashIn(secret: KubeObject | null | undefined, host = ecrHost): string | undefined {
  const text = secret?.metadata.annotations?.[annotations.hosts] ?? '{}';
  return (JSON.parse(text) as Record<string, string>)[host];
}

/** The token in a Secret of ours, as it would be shown at the registry. */
export function authIn(secret: KubeObject | null | undefined, host = ecrHost): string | undefined {
  const data = (secret?.['data'] ?? {}) as Record<string, string>;
  const text = Buffer.from(data['.dockerconfigjson'] ?? '', 'base64').toString('utf8') || '{}';
  return (JSON.parse(text) as { auths?: Record<string, { auth: string }> }).auths?.[host]?.auth;
}

/** Waits until every one of the namespaces holds this token. */
export async function waitForToken(
  admin: KubeApi,
  {
    namespaces,
    auth,
    timeoutMs = 60_000,
  }: { namespaces: readonly string[]; auth: () => string | undefined; timeoutMs?: number },
): Promise<void> {
  await eventually(
    `${namespaces.length} namespaces hold the token`,
    async () => {
      const there = await footprint(admin);
      const without = namespaces.filter((name) => authIn(there.get(name)) !== auth());
      if (without.length > 0)
        throw new Error(`without it: ${without.length}, such as ${without.slice(0, 5).join(', ')}`);
      return true;
    },
    timeoutMs,
  );
}

/** By the annotation that people use for it; sooner than ten seconds after the last call the operator waits: `StandInEcr.rested`. */
export async function askForRefresh(admin: KubeApi): Promise<void> {
  await admin.patch(resourcePath(), {
    metadata: { annotations: { [annotations.refreshRequestedAt]: new Date().toISOString() } },
  });
}

/** What the operator wrote of pull secrets and ServiceAccounts: not its Lease, status, events, token store, dry runs. */
export function servingWrites(cluster: Cluster, since: number): AuditEvent[] {
  return cluster.auditEvents({ user: operatorUser, verb: writeVerbs, since }).filter(({ objectRef, requestURI }) => {
    const isOurs = objectRef?.resource === 'secrets' && objectRef.name === defaultSecretName;
    return (isOurs || objectRef?.resource === 'serviceaccounts') && !requestURI.includes('dryRun=All');
  });
}

/** The same in short, for messages of failed tests. */
export function told(events: readonly AuditEvent[]): string[] {
  return events.map(({ verb, objectRef, responseStatus }) => {
    const { namespace, resource, name } = objectRef ?? {};
    return `${verb} ${namespace}/${resource}/${name}: ${responseStatus?.code}`;
  });
}

export function conditionOf(object: PullSecretResource | null, type: string): Condition | undefined {
  return object?.status?.conditions?.find((condition) => condition.type === type);
}

/** Waits for a condition of the resource and returns it. */
export function waitForCondition(
  admin: KubeApi,
  type: string,
  predicate: (condition: Condition) => unknown,
  { name = 'production', timeoutMs = 60_000 }: { name?: string; timeoutMs?: number } = {},
): Promise<Condition> {
  return eventually(
    `${type} of ${name} is as expected`,
    async () => {
      const object = await admin.get<PullSecretResource>(resourcePath(name));
      const condition = conditionOf(object, type);
      if (condition === undefined || !predicate(condition)) {
        throw new Error(`it is ${JSON.stringify(object?.status?.conditions)}`);
      }
      return condition;
    },
    timeoutMs,
  );
}
