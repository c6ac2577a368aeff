import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { isLong } from '../cluster/scaled.ts';
import { waitForCondition } from '../cluster/served.ts';
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
  const cases = chosen.map(({ name, role, index }) => [name, role, index] as const);
  test.each(cases)('%s, it does the rest, removes nothing, and goes on when it may', async (_, role, index) => {
    expect(await endurance.under(without(role, index), { lastsMs: isLong ? 30_000 : 5_000 })).toEqual([]);
    expect(night.replicas).toHaveLength(2);
  });
});

test('afterwards all is told as well again, and then nothing is written', async () => {
  const told = await waitForCondition(night.admin, 'Ready', ({ status }) => status === 'True');
  expect(told.reason).toBe('Ready');
  await sleep(2_000); // the events of it
  expect(await endurance.afterwards()).toEqual([]);
});
