import { readFileSync } from 'node:fs';

import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';

import manifest from '../../package.json' with { type: 'json' };
import { labels, operatorName, tokenStoreName, tokenStoreType } from '../../src/api/groupVersion.ts';
import { parseOptions } from '../../src/options.ts';
import { rightsOf, rightsTables, sorted } from './rightsTable.ts';

// What is checked in under deploy/ and charts/, as it is: no helm is needed.

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  rules?: Parameters<typeof rightsOf>[0];
  spec?: unknown;
}

interface PodTemplate {
  metadata: { labels: Record<string, string> };
  spec: {
    securityContext: Record<string, unknown>;
    containers: {
      image: string;
      args: string[];
      securityContext: Record<string, unknown>;
      resources: { requests: object; limits: object };
      readinessProbe: { httpGet: { path: string } };
      livenessProbe: { httpGet: { path: string } };
    }[];
    volumes?: object[];
    hostNetwork?: boolean;
  };
}

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const objects = parseAllDocuments(read('deploy/install.yaml')).map((document) => document.toJS() as Manifest);
const only = (kind: string): Manifest => {
  const found = objects.filter((object) => object.kind === kind);
  if (found.length !== 1) throw new Error(`${found.length} of kind ${kind}`);
  return found[0]!;
};

test('the chart has the version of the package, and the manifests its image', () => {
  const chart = parse(read('charts/ecr-pull-secrets/Chart.yaml')) as Record<string, unknown>;
  expect(chart).toMatchObject({ version: manifest.version, appVersion: manifest.version });
  expect(JSON.stringify(chart['annotations'])).toContain(`ecr-pull-secrets:${manifest.version}`);
});

test('policy and binding come before the bindings that give rights, and kustomize keeps that order', () => {
  const order = objects.map(({ kind }) => kind);
  expect(order[0]).toBe('Namespace');
  const policy = order.indexOf('ValidatingAdmissionPolicyBinding');
  expect(order.indexOf('ValidatingAdmissionPolicy')).toBeLessThan(policy);
  expect(policy).toBeLessThan(order.indexOf('ClusterRoleBinding'));
  expect(policy).toBeLessThan(order.indexOf('RoleBinding'));
  expect(parse(read('deploy/kustomization.yaml'))).toMatchObject({
    resources: ['install.yaml'],
    sortOptions: { order: 'fifo' },
  });
});

test('every object has the recommended labels, and none of them says that it is ours to remove', () => {
  for (const { kind, metadata } of objects) {
    const found = metadata.labels ?? {};
    expect({ kind, name: found['app.kubernetes.io/name'] }).toEqual({ kind, name: operatorName });
    expect({ kind, managedBy: found[labels.managedBy] }).toEqual({ kind, managedBy: undefined });
  }
});

describe('rights', () => {
  const roles = objects.filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole');
  const rights = roles.flatMap(({ kind, rules }) => rightsOf(rules ?? [], kind === 'Role'));

  test('are those of the table in the security model', () => {
    expect(sorted(rights)).toEqual(sorted(rightsTables()[0]));
  });

  test('name no wildcard, and every Secret', () => {
    for (const { resource, names, verbs } of rights) {
      expect([resource, ...verbs].join(' ')).not.toContain('*');
      expect({ resource, isByName: resource !== 'secrets' || names.length > 0 }).toMatchObject({ isByName: true });
    }
  });
});

describe('the policy', () => {
  const text = JSON.stringify(only('ValidatingAdmissionPolicy').spec);

  test('fails closed, and its binding denies', () => {
    expect(only('ValidatingAdmissionPolicy').spec).toMatchObject({ failurePolicy: 'Fail' });
    expect(only('ValidatingAdmissionPolicyBinding').spec).toMatchObject({
      policyName: only('ValidatingAdmissionPolicy').metadata.name,
      validationActions: ['Deny'],
    });
  });

  test('knows the names that the operator uses', () => {
    for (const name of [tokenStoreName, tokenStoreType, labels.managedBy, 'ecr.pullsecrets.io/hosts']) {
      expect(text).toContain(name);
    }
  });

  test('says of each refusal what it means, as a 403', () => {
    const { validations } = only('ValidatingAdmissionPolicy').spec as { validations: object[] };
    for (const validation of validations) {
      expect(validation).toMatchObject({ reason: 'Forbidden', message: expect.stringContaining('ecr-pull-secrets') });
    }
  });
});

describe('the Deployment', () => {
  const deployment = only('Deployment').spec as { replicas: number; strategy: object; template: PodTemplate };
  const { spec } = deployment.template;
  const [container] = spec.containers;

  test('passes the Pod Security Standard restricted, with a read-only root and no user that a site cannot unset', () => {
    expect(spec.securityContext).toEqual({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    expect(container?.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(spec).not.toHaveProperty('hostNetwork');
    expect(spec).not.toHaveProperty('volumes');
    expect(only('Namespace').metadata.labels).toMatchObject({ 'pod-security.kubernetes.io/enforce': 'restricted' });
  });

  test('has two replicas, of which one is always up, with probes, requests and limits', () => {
    expect(deployment).toMatchObject({ replicas: 2, strategy: { rollingUpdate: { maxUnavailable: 0 } } });
    expect(container?.livenessProbe.httpGet.path).toBe('/healthz');
    expect(container?.readinessProbe.httpGet.path).toBe('/readyz');
    for (const amounts of [container?.resources.requests, container?.resources.limits]) {
      expect(amounts).toEqual({ cpu: expect.any(String), memory: expect.any(String) });
    }
  });

  test('gives flags that the operator takes, with its own defaults', () => {
    const given = parseOptions(container?.args ?? [], {});
    const defaults = parseOptions([], {});
    expect(given).toEqual(defaults);
  });
});
