import { parseSpec, type Spec } from '../api/clusterEcrPullSecret.ts';
import { parseRegistryHost, type RegistryHost } from '../api/registryHost.ts';
import { parseAccessKeys, type CredentialSource, type Identity } from '../aws/identity.ts';
import { tokenKey } from '../aws/authorizationToken.ts';
import type { TokenWant } from '../aws/tokenBroker.ts';
import type { RegistryView, ResourceView } from '../core/planNamespace.ts';
import { whyScheduleIsWrong } from '../core/refreshTime.ts';
import type { Problem } from '../core/status.ts';
import { outcomeOf } from '../errors.ts';
import type { CredentialSecret, ResourceObject } from './observedObjects.ts';

/** A custom resource, read: what the plan sees of it, what it wants of the broker, and what is wrong with it. */
export interface ResolvedResource {
  readonly object: ResourceObject;
  readonly view: ResourceView;
  readonly isSuspended: boolean;
  /** The spec is refused; the user must change it. */
  readonly specProblem: Problem | null;
  /** The identity cannot be had, e.g. its Secret is missing. */
  readonly identityProblem: Problem | null;
  readonly registries: readonly RegistryHost[];
  /** The broker's key of the token of each host; empty while the identity cannot be had. */
  readonly keys: ReadonlyMap<string, string>;
  readonly wants: readonly TokenWant[];
}

export interface ResolveContext {
  readonly env: NodeJS.ProcessEnv;
  readonly namespace: string; // the operator's own
  readonly credentialSecretNames: readonly string[];
  credentialSecret(name: string): CredentialSecret | undefined;
}

/** `former`: how the resource of this name was read before, if it was. */
export function resolveResource(
  object: ResourceObject,
  context: ResolveContext,
  former?: ResourceView,
): ResolvedResource {
  const parsed = parseSpec(object.spec);
  if ('errors' in parsed) return refused(object, describe(parsed.errors), former);
  const { spec } = parsed;
  const registries = registriesOf(spec);
  if ('problem' in registries) return refused(object, registries.problem, former);
  const scheduleProblem = whyScheduleIsWrong(spec.refresh.schedule, spec.refresh.timeZone);
  if (scheduleProblem)
    return refused(object, { code: 'InvalidSpec', message: `spec.refresh: ${scheduleProblem}` }, former);
  const identity = identityOf(spec, context);
  const common = { object, isSuspended: spec.suspend, specProblem: null, registries: registries.hosts };
  const view = viewOf(object, spec, registries.hosts);
  if ('problem' in identity) {
    return { ...common, view, identityProblem: identity.problem, keys: new Map(), wants: [] };
  }
  const wants = wantsOf({ object, spec, hosts: registries.hosts }, identity.identity, context);
  const keys = new Map(wants.flatMap((want) => want.hosts.map((host) => [host, want.key] as const)));
  return { ...common, view, identityProblem: null, keys, wants: spec.suspend ? [] : wants };
}

function viewOf(object: ResourceObject, spec: Spec, hosts: readonly RegistryHost[]): ResourceView {
  return {
    name: object.name,
    held: spec.suspend ? 'Suspended' : null,
    namespaces: spec.namespaces,
    serviceAccounts: spec.serviceAccounts,
    registries: hosts.map(registryView),
  };
}

function registryView({ host, service }: { host: string; service: RegistryHost['service'] }): RegistryView {
  return { host, allowsAnonymousPulls: service === 'ecr-public' };
}

// A refused resource is held: whatever is published for it stays.
function refused(object: ResourceObject, problem: Problem, former: ResourceView | undefined): ResolvedResource {
  return {
    object,
    view: {
      name: object.name,
      held: problem.code,
      namespaces: {},
      serviceAccounts: former?.serviceAccounts ?? null,
      registries: heldRegistries(object, former),
    },
    isSuspended: false,
    specProblem: problem,
    identityProblem: null,
    registries: [],
    keys: new Map(),
    wants: [],
  };
}

// Those that its last good spec named, as what is published comes of that, and those that it names now. Where neither can
// be read, null: any host may be its.
function heldRegistries(object: ResourceObject, former: ResourceView | undefined): readonly RegistryView[] | null {
  if (former?.registries === null) return null;
  const published = former ? former.registries.map(({ host }) => host) : hostsOfStatus(object.status);
  const named = readableHosts(object.spec);
  if (published === null && named === null) return null;
  const hosts = new Set([...(published ?? []), ...(named ?? [])]);
  return [...hosts].map((host) => ({ host, allowsAnonymousPulls: false }));
}

// Those of the last good spec, as the operator before us knew it; null where it tells of none.
function hostsOfStatus(status: unknown): string[] | null {
  const registries = (status as { registries?: unknown } | null | undefined)?.registries;
  if (!Array.isArray(registries)) return null;
  const hosts = registries.map((registry: unknown) => (registry as { host?: unknown } | null)?.host);
  const readable = hosts.filter((host) => typeof host === 'string');
  return readable.length > 0 ? readable : null;
}

function readableHosts(spec: unknown): string[] | null {
  const registries = (spec as { registries?: unknown } | null)?.registries;
  if (!Array.isArray(registries)) return null;
  const hosts = registries.map(readableHost);
  return hosts.every((host) => host !== null) ? hosts : null;
}

// One with a mistake in it may have been meant for any.
function readableHost(registry: unknown): string | null {
  const { host, region } = (registry ?? {}) as { host?: unknown; region?: unknown };
  if (typeof host !== 'string') return null;
  const parsed = parseRegistryHost(host, typeof region === 'string' ? region : undefined);
  return 'whyNot' in parsed ? null : host;
}

function describe(errors: readonly { field: string; message: string }[]): Problem {
  const [first] = errors;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : '';
  return { code: 'InvalidSpec', message: `${first?.field ?? 'spec'}: ${first?.message ?? 'is invalid'}${more}` };
}

function registriesOf(spec: Spec): { hosts: RegistryHost[] } | { problem: Problem } {
  const hosts: RegistryHost[] = [];
  for (const [index, { host, region }] of spec.registries.entries()) {
    const parsed = parseRegistryHost(host, region);
    if ('whyNot' in parsed) {
      return { problem: { code: 'InvalidSpec', message: `spec.registries[${index}].host: ${parsed.whyNot}` } };
    }
    hosts.push(parsed);
  }
  return { hosts };
}

function identityOf(spec: Spec, context: ResolveContext): { identity: Identity } | { problem: Problem } {
  const reference = spec.credentials.accessKeySecretRef;
  const source = reference ? accessKeys(reference.name, context) : { source: { kind: 'operator' as const } };
  if ('problem' in source) return source;
  return { identity: { source: source.source, chain: spec.credentials.assumeRoleChain } };
}

function accessKeys(name: string, context: ResolveContext): { source: CredentialSource } | { problem: Problem } {
  if (!context.credentialSecretNames.includes(name)) {
    const message = `spec.credentials.accessKeySecretRef.name: the operator may not read the Secret ${name}: add it to the chart value credentialSecretNames (now: ${context.credentialSecretNames.join(', ') || 'none'})`;
    return { problem: { code: 'CredentialsNotAllowed', message } };
  }
  const secret = context.credentialSecret(name);
  if (!secret) {
    const message = `the Secret ${context.namespace}/${name} does not exist: create it with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY`;
    return { problem: { code: 'CredentialsNotFound', message } };
  }
  try {
    return { source: parseAccessKeys(`${context.namespace}/${name}`, secret.data) };
  } catch (error) {
    const outcome = outcomeOf(error);
    if (outcome.kind !== 'Configuration') throw error;
    return { problem: outcome };
  }
}

// One want for each token: hosts of one region share it.
function wantsOf(
  { object, spec, hosts }: { object: ResourceObject; spec: Spec; hosts: readonly RegistryHost[] },
  identity: Identity,
  { env }: ResolveContext,
): TokenWant[] {
  const wants = new Map<string, TokenWant>();
  for (const { host, service, region } of hosts) {
    const request = { identity, service, region };
    const key = tokenKey(request, env);
    wants.set(key, {
      key,
      request,
      hosts: [...(wants.get(key)?.hosts ?? []), host],
      ...(spec.refresh.schedule && { schedule: spec.refresh.schedule }),
      ...(spec.refresh.timeZone && { timeZone: spec.refresh.timeZone }),
      outliveSession: spec.refresh.outliveSession,
      verification: spec.verification.mode,
      revision: object.refreshRequestedAt ?? '',
    });
  }
  return [...wants.values()];
}
