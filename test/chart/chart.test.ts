import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';

import { findHelm, helmTemplate } from '../../scripts/helm.ts';
import { installManifest } from '../../scripts/renderDeploy.ts';
import { parseOptions } from '../../src/options.ts';
import { rightsOf, rightsTables, sorted } from './rightsTable.ts';

// The chart as helm renders it. Skipped where there is no helm; nothing is built or downloaded for it.

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  rules?: Parameters<typeof rightsOf>[0];
  [field: string]: unknown;
}

interface Container {
  image: string;
  args: string[];
  env?: object[];
  volumeMounts?: object[];
}

interface Workload {
  selector: { matchLabels: Record<string, string> };
  template: {
    metadata: { labels: Record<string, string>; annotations: Record<string, string> };
    spec: { containers: Container[]; topologySpreadConstraints?: { labelSelector: object }[]; volumes?: object[] };
  };
}

const helm = findHelm() ?? '';
const clusterScoped = new Set([
  'ClusterRole',
  'ClusterRoleBinding',
  'CustomResourceDefinition',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
]);

async function render(values: object = {}, o: { release?: string; namespace?: string } = {}): Promise<Manifest[]> {
  const folder = mkdtempSync(join(tmpdir(), 'ecr-chart-'));
  try {
    const file = join(folder, 'values.json');
    writeFileSync(file, JSON.stringify(values));
    const text = await helmTemplate(helm, { ...o, args: ['--values', file] });
    return parseAllDocuments(text)
      .map((document) => document.toJS() as Manifest | null)
      .filter((object) => object !== null);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function find(objects: readonly Manifest[], kind: string, name = 'ecr-pull-secrets'): Manifest {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (!found) throw new Error(`no ${kind} ${name}`);
  return found;
}

function workload(objects: readonly Manifest[], kind = 'Deployment', name = 'ecr-pull-secrets') {
  const spec = find(objects, kind, name)['spec'] as Workload;
  const [container] = spec.template.spec.containers;
  if (!container) throw new Error('no container');
  return { spec, pod: spec.template.spec, container };
}

function rights(objects: readonly Manifest[], name = 'ecr-pull-secrets') {
  const roles = objects.filter(({ kind, metadata }) => /^(Cluster)?Role$/.test(kind) && metadata.name === name);
  return sorted(roles.flatMap(({ kind, rules }) => rightsOf(rules ?? [], kind === 'Role')));
}

function policyText(objects: readonly Manifest[]): string {
  return JSON.stringify(find(objects, 'ValidatingAdmissionPolicy')['spec']);
}

describe.skipIf(helm === '')('the chart', () => {
  test('is what deploy/ was rendered from', async () => {
    const checkedIn = readFileSync(new URL('../../deploy/install.yaml', import.meta.url), 'utf8');
    expect(installManifest(await helmTemplate(helm))).toBe(checkedIn);
  });

  test('installs the same objects as deploy/, but for the namespace and the labels of Helm', async () => {
    const text = readFileSync(new URL('../../deploy/install.yaml', import.meta.url), 'utf8');
    const deployed = parseAllDocuments(text).map((document) => document.toJS() as Manifest);
    const rendered = (await render()).map((object) => {
      const { 'helm.sh/chart': _, 'app.kubernetes.io/managed-by': __, ...labels } = object.metadata.labels ?? {};
      return { ...object, metadata: { ...object.metadata, labels } };
    });
    const byKind = (a: Manifest, b: Manifest) => a.kind.localeCompare(b.kind);
    expect(rendered.toSorted(byKind)).toEqual(deployed.filter(({ kind }) => kind !== 'Namespace').toSorted(byKind));
  });

  test('puts everything into the namespace of the release, and makes no Namespace', async () => {
    const objects = await render({ cleanupOnUninstall: true }, { release: 'ecr', namespace: 'operators' });
    for (const { kind, metadata } of objects) {
      expect({ kind, namespace: metadata.namespace }).toEqual({
        kind,
        namespace: clusterScoped.has(kind) ? undefined : 'operators',
      });
    }
    expect(objects.map(({ kind }) => kind)).not.toContain('Namespace');
    expect(policyText(objects)).toContain("'system:serviceaccount:operators:ecr-pull-secrets'");
    expect(policyText(objects)).toContain("request.namespace == 'operators'");
  });

  test('keeps the CRD when the release goes', async () => {
    const crd = find(await render(), 'CustomResourceDefinition', 'clusterecrpullsecrets.ecr.pullsecrets.io');
    expect(crd.metadata.annotations).toEqual({ 'helm.sh/resource-policy': 'keep' });
  });

  test('a former name is in the rights, in the policy and in the flags', async () => {
    const objects = await render({ secretName: 'pull', formerSecretNames: ['ecr-pull'] });
    const values = {
      secretName: ['pull'],
      formerSecretNames: ['ecr-pull'],
      credentialSecretNames: ['aws-credentials'],
    };
    expect(rights(objects)).toEqual(sorted(rightsTables(values)[0]));
    expect(policyText(objects)).toContain("['pull', 'ecr-pull']");
    const { options } = parseOptions(workload(objects).container.args, {}) as { options: object };
    expect(options).toMatchObject({ secretName: 'pull', formerSecretNames: ['ecr-pull'] });
  });

  test('without ServiceAccounts there is no right on them, and the operator knows', async () => {
    const objects = await render({ serviceAccounts: { enabled: false }, cleanupOnUninstall: true });
    for (const name of ['ecr-pull-secrets', 'ecr-pull-secrets-cleanup']) {
      expect(rights(objects, name).map(({ resource }) => resource)).not.toContain('serviceaccounts');
    }
    expect(workload(objects).container.args).toContain('--service-accounts=false');
  });

  test('no credential Secret means no right on any, not on all', async () => {
    const objects = await render({ credentialSecretNames: [] });
    const own = rights(objects).filter(({ resource, isNamespaced }) => resource === 'secrets' && isNamespaced);
    expect(own.map(({ names }) => names)).toEqual([['ecr-pull-tokens']]);
    const { options } = parseOptions(workload(objects).container.args, {}) as { options: object };
    expect(options).toMatchObject({ credentialSecretNames: [] });
  });

  test('cleanup is a hook before the release is deleted, with the rights of the security model', async () => {
    expect((await render()).filter(({ metadata }) => metadata.name.endsWith('-cleanup'))).toEqual([]);
    const objects = await render({ cleanupOnUninstall: true });
    const cleanup = objects.filter(({ metadata }) => metadata.name === 'ecr-pull-secrets-cleanup');
    expect(cleanup.map(({ kind }) => kind).toSorted()).toEqual(
      ['ClusterRole', 'ClusterRoleBinding', 'Job', 'Role', 'RoleBinding', 'ServiceAccount'].toSorted(),
    );
    for (const { metadata } of cleanup) {
      expect(metadata.annotations).toMatchObject({
        'helm.sh/hook': 'pre-delete',
        'helm.sh/hook-delete-policy': 'before-hook-creation,hook-succeeded',
      });
    }
    expect(rights(objects, 'ecr-pull-secrets-cleanup')).toEqual(sorted(rightsTables()[1]));
    const { container, pod } = workload(objects, 'Job', 'ecr-pull-secrets-cleanup');
    expect(parseOptions(container.args, {})).toMatchObject({ command: 'cleanup', options: { timeoutMs: 120_000 } });
    expect(pod).toMatchObject({
      serviceAccountName: 'ecr-pull-secrets-cleanup',
      securityContext: { runAsNonRoot: true },
    });
  });

  test('the pods of cleanup are none of the Deployment', async () => {
    const objects = await render({ cleanupOnUninstall: true });
    const { matchLabels } = workload(objects).spec.selector;
    const job = find(objects, 'Job', 'ecr-pull-secrets-cleanup')['spec'] as Workload;
    expect(job.template.metadata.labels).not.toMatchObject(matchLabels);
    expect(workload(objects).spec.template.metadata.labels).toMatchObject(matchLabels);
  });

  const digest = `sha256:${'a'.repeat(64)}`;
  test.each([
    [{ tag: '1.2.3' }, 'ghcr.io/ecr-pull-secrets/ecr-pull-secrets:1.2.3'],
    [{ digest }, `ghcr.io/ecr-pull-secrets/ecr-pull-secrets@${digest}`],
    [{ tag: '1.2.3', digest }, `ghcr.io/ecr-pull-secrets/ecr-pull-secrets:1.2.3@${digest}`],
    [{ repository: 'mirror.example:5000/ecr', tag: '1' }, 'mirror.example:5000/ecr:1'],
  ])('image %j is %s', async (image, expected) => {
    const objects = await render({ image, cleanupOnUninstall: true });
    expect(workload(objects).container.image).toBe(expected);
    expect(workload(objects, 'Job', 'ecr-pull-secrets-cleanup').container.image).toBe(expected);
  });

  test("a site's labels and spread do not touch the selector", async () => {
    const objects = await render({
      podLabels: { team: 'platform', 'app.kubernetes.io/name': 'other' },
      topologySpreadConstraints: [{ maxSkew: 1, topologyKey: 'rack', whenUnsatisfiable: 'DoNotSchedule' }],
    });
    const { spec, pod } = workload(objects);
    expect(spec.template.metadata.labels).toEqual({ ...spec.selector.matchLabels, team: 'platform' });
    expect(pod.topologySpreadConstraints).toEqual([
      {
        ...{ maxSkew: 1, topologyKey: 'rack', whenUnsatisfiable: 'DoNotSchedule' },
        labelSelector: { matchLabels: spec.selector.matchLabels },
      },
    ]);
  });

  test('volumes and environment come in as they are given', async () => {
    const given = {
      env: [{ name: 'HTTPS_PROXY', value: 'http://proxy.example:3128' }],
      extraVolumes: [{ name: 'ca', configMap: { name: 'ca' } }],
      extraVolumeMounts: [{ name: 'ca', mountPath: '/ca', readOnly: true }],
    };
    const { pod, container } = workload(await render(given));
    expect(pod.volumes).toEqual(given.extraVolumes);
    expect(container).toMatchObject({ env: given.env, volumeMounts: given.extraVolumeMounts });
  });

  test('a disruption budget, where it is asked for', async () => {
    expect((await render()).map(({ kind }) => kind)).not.toContain('PodDisruptionBudget');
    const asked = await render({ podDisruptionBudget: { enabled: true } });
    expect(find(asked, 'PodDisruptionBudget')['spec']).toMatchObject({ maxUnavailable: 1 });
    const minimum = await render({ podDisruptionBudget: { enabled: true, minAvailable: '50%' } });
    expect(find(minimum, 'PodDisruptionBudget')['spec']).not.toHaveProperty('maxUnavailable');
  });

  test('an umbrella chart may give what it gives to every chart', async () => {
    expect(await render({ global: { any: 'thing' }, enabled: true })).not.toEqual([]);
  });

  test.each<[string, object, string]>([
    ['an unknown key', { replicas: 3 }, 'replicas'],
    ['an unknown key inside', { image: { registry: 'x' } }, 'registry'],
    ['a switch with a typo', { serviceAccounts: { enable: false } }, 'enable'],
    ['a name with capitals', { secretName: 'ECR' }, 'secretName'],
    ['the name of the token store', { secretName: 'ecr-pull-tokens' }, 'secretName'],
    ['a former name that is the one of now', { formerSecretNames: ['ecr-pull'] }, 'formerSecretNames'],
    ['a pull secret as a credential', { credentialSecretNames: ['ecr-pull'] }, 'credentialSecretNames'],
    ['an unknown level', { logLevel: 'verbose' }, 'logLevel'],
    ['a delay without unit', { removalDelay: '5' }, 'removalDelay'],
    ['an account id as a number', { env: [{ name: 'ACCOUNT', value: 12345678901 }] }, 'env'],
    ['a tag as a number', { image: { tag: 1.2 } }, 'tag'],
    ['a short digest', { image: { digest: 'sha256:abc' } }, 'digest'],
    ['half a replica', { replicaCount: 1.5 }, 'replicaCount'],
  ])('refuses %s', async (_, values, named) => {
    await expect(render(values)).rejects.toThrow(named);
  });
});
