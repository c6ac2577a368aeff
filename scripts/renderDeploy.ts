import { isMap, isScalar, parseAllDocuments, type Document, type YAMLMap } from 'yaml';

import type { GeneratedFile } from './generate.ts';
import { findHelm, helmTemplate } from './helm.ts';

/**
 * Policy and binding come before the binding that gives rights, as the API server needs a moment to put a policy in
 * force. Helm has an order of its own, and applies kinds that it does not know last.
 */
const ORDER = [
  'Namespace',
  'CustomResourceDefinition',
  'ServiceAccount',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
  'ClusterRole',
  'Role',
  'ClusterRoleBinding',
  'RoleBinding',
  'Deployment',
];

const NAMESPACE = `# Made from the chart by \`npm run generate\`.
apiVersion: v1
kind: Namespace
metadata:
  name: ecr-pull-secrets
  labels:
    app.kubernetes.io/name: ecr-pull-secrets
    app.kubernetes.io/part-of: ecr-pull-secrets
    pod-security.kubernetes.io/enforce: restricted
`;

/** deploy/install.yaml: the chart with its default values and the namespace. Empty where there is no helm. */
export async function renderDeploy(): Promise<readonly GeneratedFile[]> {
  const helm = findHelm();
  if (helm === null) {
    console.error('deploy/install.yaml is left as it is: helm is not installed (set HELM, or put it on the PATH)');
    return [];
  }
  return [{ path: 'deploy/install.yaml', text: installManifest(await helmTemplate(helm)) }];
}

/** What `kubectl apply` takes, of what helm rendered. */
export function installManifest(rendered: string): string {
  const objects = parseAllDocuments(rendered).filter((document): document is Document.Parsed => document.has('kind'));
  for (const object of objects) withoutHelm(object);
  const texts = objects
    .toSorted((a, b) => rank(a) - rank(b))
    .map((object) => object.toString({ lineWidth: 0, directives: false, flowCollectionPadding: false }));
  return [NAMESPACE, ...texts].join('---\n');
}

function rank(object: Document): number {
  const place = ORDER.indexOf(String(object.get('kind')));
  if (place < 0) throw new Error(`no place in the order for ${String(object.get('kind'))}`);
  return place;
}

// The annotation that keeps the CRD stays: Argo CD obeys it, too.
function withoutHelm(object: Document): void {
  object.commentBefore = withoutSource(object.commentBefore);
  if (isMap(object.contents)) withoutSourceOfFirstKey(object.contents);
  for (const label of ['helm.sh/chart', 'app.kubernetes.io/managed-by']) {
    if (object.hasIn(['metadata', 'labels'])) object.deleteIn(['metadata', 'labels', label]);
  }
}

// A comment before the first key belongs to that key or to the map, depending on where blank lines are.
function withoutSourceOfFirstKey(map: YAMLMap): void {
  map.commentBefore = withoutSource(map.commentBefore);
  const key = map.items[0]?.key;
  if (isScalar(key)) key.commentBefore = withoutSource(key.commentBefore);
}

function withoutSource(comment: string | null | undefined): string | null {
  const lines = (comment ?? '').split('\n').filter((line) => !/^ (Source: |Made from src\/api)/.test(line));
  return lines.join('\n') || null;
}
