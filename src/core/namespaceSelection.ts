import { matchesGlob } from './glob.ts';

/** What the selection looks at in a Namespace. */
export interface NamespaceView {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Its owner has set our ignore annotation: nothing of ours stays there. */
  readonly ignored: boolean;
  readonly terminating: boolean;
}

export interface LabelRequirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values?: readonly string[] | undefined;
}

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>> | undefined;
  readonly matchExpressions?: readonly LabelRequirement[] | undefined;
}

/** `spec.namespaces`: absent parts select everything. */
export interface NamespaceSelection {
  readonly selector?: LabelSelector | undefined;
  readonly names?: readonly string[] | undefined;
  readonly exclude?: readonly string[] | undefined;
}

/** null where the selection holds, else the reason why not, as a person would say it. */
export function whyNotSelected(selection: NamespaceSelection, namespace: NamespaceView): string | null {
  if (namespace.terminating) return 'the namespace is being deleted';
  if (namespace.ignored) return 'the namespace has the annotation ecr.pullsecrets.io/ignore: "true"';
  const excludedBy = selection.exclude?.find((glob) => matchesGlob(glob, namespace.name));
  if (excludedBy !== undefined) return `spec.namespaces.exclude has ${excludedBy}`;
  if (selection.names && !selection.names.some((glob) => matchesGlob(glob, namespace.name))) {
    return `no pattern of spec.namespaces.names matches: ${selection.names.join(', ')}`;
  }
  return selection.selector ? whyLabelsDiffer(selection.selector, namespace.labels) : null;
}

function whyLabelsDiffer(selector: LabelSelector, labels: Readonly<Record<string, string>>): string | null {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labelOf(labels, key) !== value) return `spec.namespaces.selector wants the label ${key}=${value}`;
  }
  for (const requirement of selector.matchExpressions ?? []) {
    if (!meets(requirement, labelOf(labels, requirement.key))) {
      const values = requirement.values?.length ? ` (${requirement.values.join(', ')})` : '';
      return `spec.namespaces.selector wants the label ${requirement.key} ${requirement.operator}${values}`;
    }
  }
  return null;
}

// Label keys such as `constructor` are valid: own properties only.
function labelOf(labels: Readonly<Record<string, string>>, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

function meets(requirement: LabelRequirement, value: string | undefined): boolean {
  const values = requirement.values ?? [];
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn': // as in Kubernetes: an absent label is not in
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}
