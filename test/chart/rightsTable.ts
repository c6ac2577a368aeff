import { readFileSync } from 'node:fs';

/** One row of a table of rights in docs/security.md. */
export interface Right {
  group: string; // '' is core
  resource: string;
  names: string[]; // empty: all
  verbs: string[];
  isNamespaced: boolean; // given by a Role in the operator's own namespace
}

/** The tables of docs/security.md: the operator's, then cleanup's. Names of values are replaced by what they hold. */
export function rightsTables(values: Readonly<Record<string, readonly string[]>> = defaultValues): [Right[], Right[]] {
  const text = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8');
  const tables = text.split('| API group | Resource | Names | Verbs | Where | For |\n').slice(1);
  const [operator, cleanup] = tables.map((table) =>
    table
      .split('\n')
      .slice(1) // the line under the heading
      .slice(0, table.split('\n').slice(1).indexOf(''))
      .map((row) => rightOf(row, values)),
  );
  if (!operator?.length || !cleanup?.length) throw new Error('docs/security.md lacks a table of rights');
  return [operator, cleanup];
}

export const defaultValues = {
  secretName: ['ecr-pull'],
  formerSecretNames: [],
  credentialSecretNames: ['aws-credentials'],
};

/** Of an RBAC role's rules: one right for each group and resource, to be compared with a table. */
export function rightsOf(
  rules: readonly { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] }[],
  isNamespaced: boolean,
): Right[] {
  return rules.flatMap(({ apiGroups, resources, resourceNames = [], verbs }) =>
    apiGroups.flatMap((group) =>
      resources.map((resource) => ({ group, resource, names: resourceNames, verbs, isNamespaced })),
    ),
  );
}

/** In one order, whatever the order was. */
export function sorted(rights: readonly Right[]): Right[] {
  const text = (right: Right) => JSON.stringify(right);
  return rights
    .map((right) => ({ ...right, names: right.names.toSorted(), verbs: right.verbs.toSorted() }))
    .toSorted((a, b) => text(a).localeCompare(text(b)));
}

function rightOf(row: string, values: Readonly<Record<string, readonly string[]>>): Right {
  const [group = '', resource = '', names = '', verbs = '', where = ''] = row
    .split('|')
    .slice(1)
    .map((cell) => cell.trim());
  return {
    group: group === 'core' ? '' : group,
    resource,
    names: list(names.replaceAll('`', '')).flatMap((name) => values[name] ?? [name]),
    verbs: list(verbs),
    isNamespaced: where === 'own namespace',
  };
}

function list(cell: string): string[] {
  return cell.split(',').flatMap((item) => item.trim() || []);
}
