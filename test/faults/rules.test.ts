import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { eventually } from '../cluster/eventually.ts';
import { isLong } from '../cluster/scaled.ts';
import { accountPath, entriesOf, footprint, told, waitForCondition } from '../cluster/served.ts';
import { seeded } from '../seeded.ts';
import { Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';
import { isCounted, isTold, isToldNoMore, nobodyLeads, sumOf } from './telling.ts';

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
const isOfLease = ({ role: { rules }, index }: (typeof all)[number]) =>
  rules[index]?.resources.includes('leases') === true && rules[index].verbs.includes('update');
const ofLease = all.find(isOfLease);
const others = all.filter((rule) => rule !== ofLease);
const random = seeded(Number(process.env['FAULT_SEED'] ?? 1));
const chosen = isLong ? others : [...others].sort(() => random() - 0.5).slice(0, 3);
if (!isLong) console.log(`${chosen.length} of ${others.length} rules, by the seed, and the lease's; all with --long`);

let night: Night;
let endurance: Endurance;

beforeAll(async () => {
  night = await Night.begin({ args: ['--credential-secret-names=aws-credentials'] });
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

interface Consequence {
  /** What `Ready` names: verb and resource. null: no condition tells, and why not. */
  named: RegExp | null;
  /** The verb whose refusals a metric counts while it lasts; null where it is not used meanwhile. */
  refused: 'list' | 'patch' | 'create' | null;
  /** Ours of the round that is there nevertheless, as `footprint` has it. */
  served: readonly ('-a' | '-b/default' | '-c' | '-c/default')[];
}

const everything = ['-a', '-b/default', '-c', '-c/default'] as const;
/** By the rule's name. */
const consequences: Readonly<Record<string, Consequence>> = {
  'get, list, watch, create, patch, delete secrets (ecr-pull)': {
    named: /may not .*(get|patch|list) secrets.*: give it the ClusterRole of the chart/,
    refused: 'list',
    served: ['-b/default'],
  },
  'list, watch namespaces': { named: /may not .*list namespaces/, refused: 'list', served: ['-a', '-b/default'] },
  'get, list, watch, patch serviceaccounts': {
    named: /may not .*(get|patch|list) serviceaccounts/,
    refused: 'list',
    served: ['-a', '-c'],
  },
  'list, watch clusterecrpullsecrets': {
    named: /may not .*list clusterecrpullsecrets/,
    refused: 'list',
    served: everything,
  },
  // The condition itself cannot be written; the log and a metric tell.
  'patch clusterecrpullsecrets/status': { named: null, refused: 'patch', served: everything },
  'get, list, watch customresourcedefinitions (clusterecrpullsecrets.ecr.pullsecrets.io)': {
    named: /may not .*list customresourcedefinitions/,
    refused: 'list',
    served: everything,
  },
  // What cannot be told by an event is told by conditions all the same.
  'create, patch events': { named: null, refused: 'create', served: everything },
  'list, watch secrets (aws-credentials) of its own namespace': {
    named: /may not .*list secrets \(in the operator's namespace\)/,
    refused: 'list',
    served: everything,
  },
  // Needed where a token is fresh, or a leader begins; the log tells.
  'get, create, patch secrets (ecr-pull-tokens) of its own namespace': {
    named: null,
    refused: null,
    served: everything,
  },
  // Needed where there is no Lease.
  'create leases of its own namespace': { named: null, refused: null, served: everything },
};

function tellingOf({ named, refused }: Consequence): string {
  if (named !== null) return 'a condition tells';
  return refused === null ? 'nothing tells, as it is not used' : 'a metric alone tells';
}

async function areServed(served: Consequence['served']): Promise<void> {
  const missing = async () => {
    const there = await footprint(night.admin);
    return served.map((what) => endurance.round + what).filter((key) => !there.has(key));
  };
  await eventually('what needs no such right is written', async () => {
    const keys = await missing();
    if (keys.length > 0) throw new Error(`missing: ${keys.join(', ')}`);
    return true;
  });
}

test('of every rule it is known what its loss does', () => {
  expect(others.map(({ name }) => name).toSorted()).toEqual(Object.keys(consequences).toSorted());
});

describe('while the operator may not', () => {
  const cases = chosen.map(({ name, role, index }) => {
    const consequence = consequences[name] ?? { named: null, refused: null, served: [] };
    return [name, tellingOf(consequence), { role, index, ...consequence }] as const;
  });
  test.each(cases)(
    '%s, %s, it does the rest, removes nothing, and goes on when it may',
    async (_, __, { role, index, named, refused, served }) => {
      const metric = { sample: `ecr_pull_secrets_kube_requests_total{verb="${refused}",code="403"}`, above: 0 };
      metric.above = await sumOf(night, metric.sample);
      const during = async () => {
        await areServed(served);
        if (refused !== null) await isCounted(night, metric);
        if (named === null) return;
        await isTold(night, { condition: { type: 'Ready', reason: 'MissingPermission', message: named } });
      };
      const broken = await endurance.under(without(role, index), { lastsMs: isLong ? 30_000 : 5_000, during });
      expect(broken).toEqual([]);
      expect(night.replicas).toHaveLength(2);
      await isToldNoMore(night, 'Ready');
    },
  );

  test('get and update its lease, both replicas stop in time, write nothing, and one leads when it may', async () => {
    if (ofLease === undefined) throw new Error('no rule is about the lease');
    let lapsed = 0;
    const during = async () => {
      await nobodyLeads(night);
      lapsed = night.cluster.auditMark();
      // There is something to do, and nobody does it.
      await night.admin.patch(accountPath(`${endurance.round}-b`), { imagePullSecrets: [{ name: 'foreign' }] });
      const isNamed = ({ message, err }: { message: string; err?: unknown }) =>
        message === 'the lease could not be renewed' && /update leases .*: 403/.test(JSON.stringify(err));
      expect(night.replicas.flatMap(({ operator }) => operator.logs(isNamed)).length).toBeGreaterThan(0);
    };
    const begin: Begin = async (night) => {
      const end = await without(ofLease.role, ofLease.index)(night);
      return async () => {
        await nobodyLeads(night);
        expect(told(night.writes(lapsed))).toEqual([]);
        expect(entriesOf(await night.admin.read(accountPath(`${endurance.round}-b`)))).toEqual(['foreign']);
        await end();
      };
    };
    expect(await endurance.under(begin, { lastsMs: 20_000, during })).toEqual([]);
    await night.leader();
  });
});

test('afterwards all is told as well again, and then nothing is written', async () => {
  const told = await waitForCondition(night.admin, 'Ready', ({ status }) => status === 'True');
  expect(told.reason).toBe('Ready');
  expect(await endurance.afterwards()).toEqual([]);
});
