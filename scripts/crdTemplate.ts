import { stringify } from 'yaml';

import { crd } from '../src/api/clusterEcrPullSecret.ts';
import type { GeneratedFile } from './generate.ts';

/** The CRD as a template of the chart: upgraded with it, and kept when the release is uninstalled. */
export function crdTemplate(): GeneratedFile {
  const { metadata, ...rest } = crd() as { metadata: object };
  const { apiVersion, kind, ...body } = rest as Record<string, unknown>;
  const annotated = {
    apiVersion,
    kind,
    metadata: {
      ...metadata,
      labels: { 'app.kubernetes.io/name': 'ecr-pull-secrets', 'app.kubernetes.io/part-of': 'ecr-pull-secrets' },
      // Deleting a CRD deletes every resource of its kind.
      annotations: { 'helm.sh/resource-policy': 'keep' },
    },
    ...body,
  };
  const yaml = stringify(annotated, { lineWidth: 0 });
  if (/\{\{|\}\}/.test(yaml)) throw new Error('a text of the CRD has {{ or }}, which Helm would take for its own');
  return {
    path: 'charts/ecr-pull-secrets/templates/crd.yaml',
    text: `# Made from src/api by \`npm run generate\`.\n${yaml}`,
  };
}
