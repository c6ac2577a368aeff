import { badRequest } from './apiFailure.ts';
import type { KubeObject } from './kubeObject.ts';

/** What a list or watch is narrowed to. */
export interface Selector {
  readonly namespace: string | undefined;
  /** `metadata.name`, which RBAC sees as the name. */
  readonly name: string | undefined;
  readonly matches: (object: KubeObject) => boolean;
}

/** Equality on names and labels, existence of labels. Throws 400 for anything else. */
export function selectorOf(query: URLSearchParams, namespace: string | undefined): Selector {
  const wanted = { name: undefined as string | undefined, namespace };
  for (const [field, value] of parts(query.get('fieldSelector')).map(equality)) {
    if (field === 'metadata.name') wanted.name = value;
    else if (field === 'metadata.namespace') wanted.namespace = value;
    else throw badRequest(`"${field}" is not a known field selector: only "metadata.name", "metadata.namespace"`);
  }
  const labels = parts(query.get('labelSelector')).map(labelTest);
  const matches = ({ metadata }: KubeObject): boolean =>
    (wanted.namespace === undefined || metadata.namespace === wanted.namespace) &&
    (wanted.name === undefined || metadata.name === wanted.name) &&
    labels.every((test) => test(metadata.labels ?? {}));
  return { ...wanted, matches };
}

function parts(text: string | null): string[] {
  return text ? text.split(',') : [];
}

function equality(part: string): [string, string] {
  const found = /^([^=!]+)==?([^=]*)$/.exec(part);
  if (!found) throw badRequest(`invalid selector: "${part}"; can't understand "${part}"`);
  return [found[1] ?? '', found[2] ?? ''];
}

function labelTest(part: string): (labels: Record<string, string>) => boolean {
  const unequal = /^([^=!]+)!=(.*)$/.exec(part);
  if (unequal) return (labels) => labels[unequal[1] ?? ''] !== unequal[2];
  if (part.startsWith('!')) return (labels) => !Object.hasOwn(labels, part.slice(1));
  if (!part.includes('=')) return (labels) => Object.hasOwn(labels, part);
  const [key, value] = equality(part);
  return (labels) => labels[key] === value;
}
