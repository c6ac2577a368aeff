import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { isLong } from '../cluster/scaled.ts';
import { seeded } from '../seeded.ts';
import { Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';

// Every rule of RBAC is taken away in turn.

interface Rule {
  resources: string[];
  resourceNames?: string[];
  verbs: string[];
}

interface Role {
  kind: string;
  metadata: { name: string; namespace?: string };
  rules: Rule[];
}

const install = readFileSync(fileURLToPath(new URL('../../deploy/install.yaml', import.meta.url)), 'utf8');
const roles = parseAllDocuments(install)
  .map((document) => document.toJS() as Role | null)
  .filter((object): object is Role => object?.kind === 'ClusterRole' || object?.kind === 'Role');
const all = roles.flatMap((role) => role.rules.map((rule, index) => ({ role, index, name: nameOf(role, rule) })));
const random = seeded(Number(process.env['FAULT_SEED'] ?? 1));
const chosen = isLong ? all : [...all].sort(() => random() - 0.5).slice(0, 3);
if (!isLong) console.log(`${chosen.length} of ${all.length} rules, by the seed; all with --long`);

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
});
afterAll(() => night?.end());

function nameOf({ metadata }: Role, { verbs, resources, resourceNames = [] }: Rule): string {
  const names = resourceNames.length > 0 ? ` (${resourceNames.join(', ')})` : '';
  return `${verbs.join(', ')} ${resources.join(', ')}${names}${metadata.namespace ? ' of its own namespace' : ''}`;
}

function without({ kind, metadata: { name, namespace }, rules }: Role, index: number): Begin {
  const scope = namespace === undefined ? '' : `namespaces/${namespace}/`;
  const path = `/apis/rbac.authorization.k8s.io/v1/${scope}${kind.toLowerCase()}s/${name}`;
  return async ({ admin, replicas }) => {
    await admin.patch(path, { rules: rules.filter((_, at) => at !== index) });
    for (const { proxy } of replicas) proxy.reset(); // a watch that is open goes on without its right
    return async () => {
      await admin.patch(path, { rules });
    };
  };
}

describe('while the operator may not', () => {
  test.each(chosen)('$name, it does the rest, removes nothing, and goes on when it may', async ({ role, index }) => {
    expect(await endurance.under(without(role, index), { lastsMs: isLong ? 30_000 : 5_000 })).toEqual([]);
    expect(night.replicas).toHaveLength(2);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
