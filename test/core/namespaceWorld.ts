// Builders that state only what differs, and the effect of writes on an observed namespace: what the API server and the
// watches would make of them.
import type {
  NamespaceDiff,
  ObservedNamespace,
  ObservedSecret,
  ObservedServiceAccount,
  Write,
} from '../../src/core/diffNamespace.ts';
import type { JsonPatch } from '../../src/core/imagePullSecrets.ts';
import { patchToAdd, patchToRemove } from '../../src/core/imagePullSecrets.ts';
import type { NamespaceView } from '../../src/core/namespaceSelection.ts';
import { entryHash, type ResourceView, type Resources, type TokenState } from '../../src/core/planNamespace.ts';

export const SECRET = 'ecr-pull';
export const HOST = '123456789012.dkr.ecr.us-east-1.amazonaws.com';

export function namespace(overrides: Partial<NamespaceView> = {}): NamespaceView {
  return { name: 'team-a', labels: {}, ignored: false, terminating: false, ...overrides };
}

export function resource(overrides: Partial<ResourceView> = {}): ResourceView {
  return {
    name: 'production',
    held: null,
    namespaces: {},
    serviceAccounts: { names: ['default'], exclude: [] },
    registries: [{ host: HOST, allowsAnonymousPulls: false }],
    ...overrides,
  };
}

export function resources(...inOrder: ResourceView[]): Resources {
  return { inOrder: inOrder.toSorted((a, b) => (a.name < b.name ? -1 : 1)), heldUnlessIn: null };
}

export const usable = (auth: string): TokenState => ({ state: 'usable', auth });

export function secret(hosts: Record<string, string> | null, overrides: Partial<ObservedSecret> = {}): ObservedSecret {
  return {
    name: SECRET,
    uid: 'uid-1',
    resourceVersion: '1',
    isOurs: true,
    isIntact: true,
    hosts: hosts === null ? null : new Map(Object.entries(hosts).map(([host, auth]) => [host, entryHash(auth)])),
    patterns: [{ names: ['default'], exclude: [] }],
    ...overrides,
  };
}

export function serviceAccount(
  name: string,
  entries: string[],
  overrides: Partial<ObservedServiceAccount> = {},
): ObservedServiceAccount {
  return { name, entries, resourceVersion: '1', isIgnored: false, ownedAt: null, ...overrides };
}

export function observed(overrides: Partial<ObservedNamespace> = {}): ObservedNamespace {
  return { secret: null, formerSecrets: [], serviceAccounts: [serviceAccount('default', [])], ...overrides };
}

export function kinds(diff: NamespaceDiff): string[] {
  return diff.writes.map((write) =>
    'serviceAccount' in write ? `${write.kind} ${write.serviceAccount.name}` : write.kind,
  );
}

/** The namespace after these writes. */
export function after(before: ObservedNamespace, writes: readonly Write[]): ObservedNamespace {
  return writes.reduce(afterOne, before);
}

function afterOne(before: ObservedNamespace, write: Write): ObservedNamespace {
  switch (write.kind) {
    case 'ApplySecret': {
      const kept = [...(before.secret?.hosts ?? [])].filter(
        ([host]) => !write.entries.has(host) && write.keeps?.(host),
      );
      const own = [...write.entries].map(([host, entry]) => [host, entry.hash] as const);
      const hosts = new Map([...kept, ...own]);
      const uid = before.secret?.uid ?? 'uid-new';
      return {
        ...before,
        secret: { ...secret({}), uid, hosts, patterns: write.patterns },
      };
    }
    case 'DeleteSecret':
      return {
        ...before,
        secret: write.observed.name === SECRET ? null : before.secret,
        formerSecrets: before.formerSecrets.filter(({ name }) => name !== write.observed.name),
      };
    case 'AddEntry':
      return edited(before, write.serviceAccount, patchToAdd(write.serviceAccount, SECRET));
    case 'RemoveEntry':
      return edited(before, write.serviceAccount, patchToRemove(write.serviceAccount, write.secretName));
    case 'ReleaseOwnership':
      return replaced(before, { ...write.serviceAccount, ownedAt: null });
  }
}

function edited(before: ObservedNamespace, target: ObservedServiceAccount, patch: JsonPatch | null): ObservedNamespace {
  return replaced(before, { ...target, entries: entriesAfter(target.entries, patch ?? []) });
}

/** What a JSON patch of ours makes of a list of entries. */
export function entriesAfter(entries: readonly string[], patch: JsonPatch): string[] {
  const list = [...entries];
  for (const { op, path, value } of patch) {
    if (op === 'add' && path === '/imagePullSecrets/-') list.push((value as { name: string }).name);
    else if (op === 'add') list.splice(0, list.length, ...(value as { name: string }[]).map(({ name }) => name));
    else if (op === 'remove') list.splice(Number(path.split('/').at(-1)), 1);
  }
  return list;
}

function replaced(before: ObservedNamespace, target: ObservedServiceAccount): ObservedNamespace {
  const serviceAccounts = before.serviceAccounts ?? [];
  return { ...before, serviceAccounts: serviceAccounts.map((one) => (one.name === target.name ? target : one)) };
}
