import { setTimeout as sleep } from 'node:timers/promises';
import { apiVersion, defaultSecretName, kind, resourcesPath } from '../../src/api/groupVersion.ts';
import type { AuditEntry } from '../sandbox/audit.ts';
import { startSandbox, type Sandbox } from '../sandbox/sandbox.ts';

export const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
export const image = `${host}/team/app:1`;
const resourcePath = `${resourcesPath}/production`;

/** The cluster of the demo, in the words of its story. */
export class Scene {
  readonly sandbox: Sandbox;

  private constructor(sandbox: Sandbox) {
    this.sandbox = sandbox;
  }

  static async set(o: { lifeMs: number; namespaces: readonly string[] }): Promise<Scene> {
    const scene = new Scene(await startSandbox({ aws: { tokenLifeMs: o.lifeMs } }));
    for (const name of o.namespaces) scene.createNamespace(name);
    const account = (name: string) => `/api/v1/namespaces/${name}/serviceaccounts/default`;
    await until(
      'default ServiceAccounts',
      () => o.namespaces.every((name) => scene.#admin.find(account(name))),
      10_000,
    );
    return scene;
  }

  get #admin() {
    return this.sandbox.api.admin;
  }

  createNamespace(name: string): void {
    this.#admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  }

  createServiceAccount(namespace: string, name: string): void {
    this.#admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { namespace, name } });
  }

  /** What another team has made under the operator's very name. */
  createForeignSecret(namespace: string): void {
    const data = { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') };
    const metadata = { namespace, name: defaultSecretName };
    this.#admin.create({ apiVersion: 'v1', kind: 'Secret', metadata, type: 'kubernetes.io/dockerconfigjson', data });
  }

  addForeignEntry(namespace: string): void {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/default`;
    this.#admin.merge(path, { imagePullSecrets: [...this.entries(namespace), 'harbor'].map((name) => ({ name })) });
  }

  applyResource(): void {
    const spec = { registries: [{ host }], namespaces: { names: ['team-*'] }, serviceAccounts: { names: ['*'] } };
    this.#admin.apply({ apiVersion, kind, metadata: { name: 'production' }, spec });
  }

  deleteResource(): void {
    this.#admin.delete(resourcePath);
  }

  entries(namespace: string, serviceAccount = 'default'): string[] {
    const account = this.#admin.find(`/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}`);
    return ((account?.['imagePullSecrets'] ?? []) as { name: string }[]).map(({ name }) => name);
  }

  /** The resourceVersion tells whether anybody has touched it. */
  secretVersion(namespace: string): string | null {
    const path = `/api/v1/namespaces/${namespace}/secrets/${defaultSecretName}`;
    return this.#admin.find(path)?.metadata.resourceVersion ?? null;
  }

  isServed(namespace: string, serviceAccount = 'default'): boolean {
    return (
      this.secretVersion(namespace) !== null && this.entries(namespace, serviceAccount).includes(defaultSecretName)
    );
  }

  condition(type: string): { status: string; reason: string; message: string } | undefined {
    const status = this.#admin.find(resourcePath)?.['status'] as { conditions?: Condition[] } | undefined;
    return status?.conditions?.find((condition) => condition.type === type);
  }

  /** The lines of `kubectl get cecr`. */
  table(): string[] {
    const status = (this.#admin.get(resourcePath)['status'] ?? {}) as Record<string, unknown>;
    const cells = [
      ['NAME', 'production'],
      ['READY', this.condition('Ready')?.status],
      ['REGISTRIES', status['registryCount']],
      ['NAMESPACES', status['namespacesReady']],
      ['EXPIRES', status['expiresAt']],
    ].map(([head, value]) => [String(head), `${(value as string | number | undefined) ?? ''}`] as const);
    const row = (which: 0 | 1): string =>
      cells.map((cell) => cell[which].padEnd(Math.max(cell[0].length, cell[1].length) + 3)).join('');
    return [row(0).trimEnd(), row(1).trimEnd()];
  }

  async pull(namespace: string): Promise<{ ok: boolean; message: string }> {
    const pulled = await (await this.sandbox.createPod({ namespace, image })).attempt();
    return { ok: pulled.ok, message: pulled.ok ? '' : pulled.message };
  }

  /** What the operator wrote since a mark, its Lease apart. */
  writes(since = 0): AuditEntry[] {
    const { audit } = this.sandbox.api;
    return audit
      .since(since)
      .writes({ user: this.sandbox.operatorUser })
      .filter(({ resource }) => resource !== 'leases');
  }

  /** Of Secrets and ServiceAccounts in namespaces of teams. */
  fanOutWrites(since = 0): AuditEntry[] {
    return this.writes(since).filter(
      ({ resource, namespace }) =>
        (resource === 'secrets' || resource === 'serviceaccounts') && namespace.startsWith('team-'),
    );
  }

  mark(): number {
    return this.sandbox.api.audit.mark();
  }

  tokenCalls(): number {
    return this.sandbox.aws.callsOf('GetAuthorizationToken').length;
  }
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

/** Until it holds: how long that took, ms. Else an error that says what is missing. */
export async function until(what: string, holds: () => boolean, mostMs: number): Promise<number> {
  const begun = performance.now();
  while (!holds()) {
    if (performance.now() - begun > mostMs) throw new Error(`not within ${mostMs / 1000} s: ${what}`);
    await sleep(2);
  }
  return performance.now() - begun;
}

export function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}
