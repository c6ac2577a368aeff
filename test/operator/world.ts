import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import { apiVersion, kind, resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { runOperator, type InProcessOperator, type InProcessOptions } from '../sandbox/inProcess.ts';
import type { KubeObject } from '../sandbox/kubeObject.ts';
import { startSandbox, type Sandbox, type SandboxOptions } from '../sandbox/sandbox.ts';

export const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
const image = `${host}/team/app:1`;

/** A sandbox with these namespaces, and what a test does there. It ends with the test, and the operators with it. */
export async function startWorld(o: SandboxOptions & { namespaces?: readonly string[] } = {}): Promise<World> {
  const { namespaces = ['team-a', 'team-b'], ...options } = o;
  const world = new World(await startSandbox(options));
  for (const name of namespaces) world.createNamespace(name);
  return world;
}

/** What a test does to the cluster, and looks at, in the words of this project. */
export class World implements AsyncDisposable {
  readonly sandbox: Sandbox;
  readonly #operators: InProcessOperator[] = [];

  constructor(sandbox: Sandbox) {
    this.sandbox = sandbox;
  }

  /** Operators first, the last one first. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const operator of this.#operators.toReversed()) await operator.stop();
    await this.sandbox.close();
  }

  get api() {
    return this.sandbox.api;
  }

  get admin() {
    return this.sandbox.api.admin;
  }

  async operator(o: InProcessOptions = {}): Promise<InProcessOperator> {
    const operator = await runOperator(this.sandbox, o);
    this.#operators.push(operator);
    return operator;
  }

  createNamespace(name: string, metadata: object = {}): void {
    this.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, ...metadata } });
  }

  apply(spec: object = {}, name = 'production'): void {
    const standard = { registries: [{ host }], namespaces: { names: ['team-*'] } };
    this.admin.apply({ apiVersion, kind, metadata: { name }, spec: { ...standard, ...spec } });
  }

  resource(name = 'production'): KubeObject & { status?: ResourceStatus } {
    return this.admin.get(`${resourcesPath}/${name}`);
  }

  condition(type: string, name = 'production'): Condition | undefined {
    return this.resource(name).status?.conditions.find((condition) => condition.type === type);
  }

  isReady(name = 'production'): boolean {
    const { metadata, status } = this.resource(name);
    return status?.observedGeneration === metadata.generation && this.condition('Ready', name)?.status === 'True';
  }

  secret(namespace: string, name = 'ecr-pull'): KubeObject | null {
    return this.admin.find(`/api/v1/namespaces/${namespace}/secrets/${name}`);
  }

  auths(namespace: string): Record<string, { auth: string }> {
    const data = this.secret(namespace)?.['data'] as Record<string, string> | undefined;
    const text = Buffer.from(data?.['.dockerconfigjson'] ?? '', 'base64').toString() || '{"auths":{}}';
    return (JSON.parse(text) as { auths: Record<string, { auth: string }> }).auths;
  }

  entries(namespace: string, serviceAccount = 'default'): string[] {
    const found = this.admin.find(`/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}`);
    return ((found?.['imagePullSecrets'] ?? []) as { name: string }[]).map(({ name }) => name);
  }

  /** All that pods see of us there, with metadata, so that a write of the same bytes shows; of data the hash alone. */
  published(...namespaces: string[]): object[] {
    return namespaces.map((name) => {
      const secret = this.secret(name);
      const hash = createHash('sha256').update(JSON.stringify(secret?.['data'] ?? null));
      return { ...secret, data: hash.digest('hex'), entries: this.entries(name) };
    });
  }

  isServed(namespace: string): boolean {
    return this.secret(namespace) !== null && this.entries(namespace).includes('ecr-pull');
  }

  async served(...namespaces: string[]): Promise<void> {
    for (const name of namespaces) await eventually(`${name} is served`, () => this.isServed(name), 10_000);
  }

  async ready(name = 'production'): Promise<void> {
    await eventually(`${name} is ready`, () => this.isReady(name), 10_000);
  }

  async pull(namespace: string): Promise<{ ok: boolean; message?: string }> {
    return (await this.sandbox.createPod({ namespace, image })).attempt();
  }

  /** The operator has nothing more to write, leases apart: no damage makes it write for ever. */
  async quiet(): Promise<void> {
    const count = (): number =>
      this.api.audit.writes({ user: this.sandbox.operatorUser }).filter(({ resource }) => resource !== 'leases').length;
    let before = -1;
    await eventually('the operator is quiet', async () => {
      before = count();
      await new Promise((resolve) => setTimeout(resolve, 300));
      return count() === before;
    });
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

interface ResourceStatus {
  readonly observedGeneration: number;
  readonly conditions: readonly Condition[];
  readonly namespacesReady: string;
  readonly expiresAt?: string;
  readonly registries: readonly { host: string; message?: string }[];
  readonly failures: readonly { namespace: string; message: string }[];
}

/** Whether this stays so for a while: what must not happen needs time to. */
export async function staysSo(ms: number, holds: () => boolean): Promise<void> {
  for (const until = performance.now() + ms; performance.now() < until;) {
    expect(holds()).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
