import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { defaultAuditPolicy } from './auditLog.ts';
import { eventually } from './eventually.ts';
import { freePort } from './freePort.ts';
import { KubeApi } from './kubeApi.ts';
import type { ProcessLedger, StartedProcess } from './processLedger.ts';

export interface ControlPlaneOptions {
  /** Of the API server, on 127.0.0.1; a free one unless told. */
  port?: number | undefined;
  /** JSON or YAML in place of the default audit policy. */
  auditPolicy?: string | undefined;
  /** Further flags of kube-apiserver; they win over ours. */
  apiServerFlags?: readonly string[] | undefined;
  /** Done to the folder before anything starts, such as to put another `certs/apiserver.crt` and its key there. */
  prepare?: ((dir: string) => void) | undefined;
}

/** The users of the control plane, each with a token of its own: the audit log tells them apart. */
export type Component = 'admin' | 'system:kube-controller-manager' | 'system:kube-scheduler' | 'system:node:node1';

/** How each of its processes is started, again where it has ended. */
interface Starts {
  etcd: () => StartedProcess;
  apiServer: (at?: { port: number; etcd: string }, name?: string) => StartedProcess;
  controllerManager: () => StartedProcess;
}

/** etcd, kube-apiserver and kube-controller-manager on loopback, their state and logs in the ledger's folder. */
export class ControlPlane {
  readonly server: string;
  readonly admin: KubeApi;
  readonly auditLogFile: string;
  /** In PEM: the API server's certificate is its own CA. */
  readonly ca: string;
  /** Where etcd is asked. */
  readonly etcd: string;
  readonly #start: Starts;
  #etcd: StartedProcess;
  #apiServer: StartedProcess;
  #controllerManager: StartedProcess | null = null;

  private constructor(o: {
    server: string;
    ca: string;
    admin: KubeApi;
    auditLogFile: string;
    etcd: string;
    start: Starts;
    running: { etcd: StartedProcess; apiServer: StartedProcess };
  }) {
    this.server = o.server;
    this.ca = o.ca;
    this.admin = o.admin;
    this.auditLogFile = o.auditLogFile;
    this.etcd = o.etcd;
    this.#start = o.start;
    this.#etcd = o.running.etcd;
    this.#apiServer = o.running.apiServer;
  }

  static async start(bin: string, ledger: ProcessLedger, o: ControlPlaneOptions): Promise<ControlPlane> {
    const { dir } = ledger;
    const { port = await freePort() } = o;
    const server = `https://127.0.0.1:${port}`;
    const tokens = writeCredentials(dir, o.auditPolicy);
    o.prepare?.(dir);
    const etcd = `http://127.0.0.1:${await freePort()}`;
    const flagsOfEtcd = etcdFlags(dir, etcd, `http://127.0.0.1:${await freePort()}`);
    const start: Starts = {
      etcd: () => ledger.start('etcd', join(bin, 'etcd'), flagsOfEtcd),
      apiServer: (at = { port, etcd }, name = 'kube-apiserver') => {
        const audit = name === 'kube-apiserver' ? [] : [`--audit-log-path=${join(dir, `${name}-audit.log`)}`];
        const flags = [...apiServerFlags(dir, at), ...(o.apiServerFlags ?? []), ...audit];
        return ledger.start(name, join(bin, 'kube-apiserver'), flags);
      },
      controllerManager: () =>
        ledger.start('kube-controller-manager', join(bin, 'kube-controller-manager'), controllerManagerFlags(dir)),
    };
    const running = { etcd: start.etcd(), apiServer: start.apiServer() };
    const { apiServer } = running;

    const certificate = join(dir, 'certs/apiserver.crt');
    await eventually('the API server has written its certificate', () => alive(apiServer) && existsSync(certificate));
    await eventually('the certificate is whole', () => readFileSync(certificate, 'utf8').includes('END CERTIFICATE'));
    const ca = readFileSync(certificate, 'utf8');
    for (const [name, token] of tokens) {
      writeFileSync(kubeconfigOf(dir, name), kubeconfig({ server, ca, token, user: name }), { mode: 0o600 });
    }
    const admin = new KubeApi({ server, ca, token: tokens.get('admin') ?? '' });
    const auditLogFile = join(dir, 'audit.log');
    const plane = new ControlPlane({ server, ca, admin, auditLogFile, etcd, start, running });
    await plane.#ready();
    plane.#controllerManager = start.controllerManager();
    await admin.waitFor('/api/v1/namespaces/default/serviceaccounts/default');
    return plane;
  }

  get apiServer(): StartedProcess {
    return this.#apiServer;
  }

  /** SIGTERM lets open requests end; SIGKILL cuts them. */
  async stopApiServer(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    this.#apiServer.kill(signal);
    await this.#apiServer.exited;
  }

  async startApiServer(): Promise<void> {
    if (this.#apiServer.isRunning()) throw new Error('the API server is running');
    this.#apiServer = this.#start.apiServer();
    await this.#ready();
  }

  /**
   * Another API server over the same data, certificates and tokens, which asks etcd at another address; its audit log is
   * one of its own.
   */
  async startApiServerBeside(etcd: string): Promise<{ server: string; process: StartedProcess }> {
    const port = await freePort();
    const server = `https://127.0.0.1:${port}`;
    const process = this.#start.apiServer({ port, etcd }, `kube-apiserver-${port}`);
    const client = this.admin.at(server);
    const isReady = async () =>
      alive(process) && (await client.request('GET', '/readyz', { timeoutMs: 2000 })).status === 200;
    await eventually(`${server} is ready (see ${process.logFile})`, isReady, 60_000);
    await client.close();
    return { server, process };
  }

  /** Everything that keeps state or has seen it stands still while `change` is done to etcd's folder. */
  async whileDown(change: (etcdDir: string) => Promise<void> | void): Promise<void> {
    const down = [this.#controllerManager, this.#apiServer, this.#etcd];
    for (const process of down) {
      process?.kill('SIGTERM');
      await process?.exited;
    }
    await change(etcdDir(dirname(this.auditLogFile)));
    this.#etcd = this.#start.etcd();
    await this.startApiServer();
    this.#controllerManager = this.#start.controllerManager();
  }

  async #ready(): Promise<void> {
    const isReady = async () =>
      alive(this.#apiServer) && (await this.admin.request('GET', '/readyz', { timeoutMs: 2000 })).status === 200;
    await eventually(`${this.server} is ready (see ${this.#apiServer.logFile})`, isReady, 60_000);
  }
}

/** Where the kubeconfig of a component is. */
export function kubeconfigOf(dir: string, component: Component): string {
  return join(dir, `${component.replaceAll(':', '-')}.kubeconfig`);
}

/** JSON is YAML: every client reads it. */
export function kubeconfig(o: {
  server: string;
  ca: string;
  token: string;
  user: string;
  namespace?: string;
  /** The name in the certificate, where the server's address is another one. */
  tlsServerName?: string;
}): string {
  const authority = Buffer.from(o.ca).toString('base64');
  const name = o.tlsServerName === undefined ? {} : { 'tls-server-name': o.tlsServerName };
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server: o.server, 'certificate-authority-data': authority, ...name } }],
    users: [{ name: o.user, user: { token: o.token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: o.user, namespace: o.namespace ?? 'default' } }],
    'current-context': 'test',
  });
}

function alive(process: StartedProcess): true {
  if (!process.isRunning()) throw new Error(`${process.name} has ended: see ${process.logFile}`);
  return true;
}

function writeCredentials(dir: string, auditPolicy: string | undefined): Map<Component, string> {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  writeFileSync(join(dir, 'sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }), { mode: 0o600 });
  writeFileSync(join(dir, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
  const users: Component[] = ['admin', 'system:kube-controller-manager', 'system:kube-scheduler', 'system:node:node1'];
  const tokens = new Map(users.map((user) => [user, randomBytes(16).toString('hex')]));
  const lines = [...tokens].map(([user, token]) => `${token},${user},${user},"system:masters"\n`);
  writeFileSync(join(dir, 'tokens.csv'), lines.join(''), { mode: 0o600 });
  writeFileSync(join(dir, 'audit-policy.yaml'), auditPolicy ?? defaultAuditPolicy);
  return tokens;
}

function etcdFlags(dir: string, client: string, peer: string): string[] {
  return [
    `--data-dir=${etcdDir(dir)}`,
    '--unsafe-no-fsync', // the data live as long as the test
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
  ];
}

function etcdDir(dir: string): string {
  return join(dir, 'etcd');
}

function apiServerFlags(dir: string, { port, etcd }: { port: number; etcd: string }): string[] {
  return [
    `--etcd-servers=${etcd}`,
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    `--secure-port=${port}`,
    `--cert-dir=${join(dir, 'certs')}`,
    `--token-auth-file=${join(dir, 'tokens.csv')}`,
    '--authorization-mode=RBAC',
    '--allow-privileged=true',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${join(dir, 'sa.pub')}`,
    `--service-account-signing-key-file=${join(dir, 'sa.key')}`,
    '--service-cluster-ip-range=10.0.0.0/24',
    '--endpoint-reconciler-type=none', // Endpoints may not be on loopback
    '--shutdown-delay-duration=0s',
    '--shutdown-watch-termination-grace-period=2s', // else it waits a minute for clients to end their watches
    `--audit-policy-file=${join(dir, 'audit-policy.yaml')}`,
    `--audit-log-path=${join(dir, 'audit.log')}`,
    '--audit-log-maxsize=4096', // MB: one file, never rotated
  ];
}

function controllerManagerFlags(dir: string): string[] {
  return [
    `--kubeconfig=${kubeconfigOf(dir, 'system:kube-controller-manager')}`,
    '--leader-elect=false',
    '--secure-port=0',
    `--service-account-private-key-file=${join(dir, 'sa.key')}`,
    `--root-ca-file=${join(dir, 'certs/apiserver.crt')}`,
    // The default of 20 requests a second would make 20 default ServiceAccounts a second.
    '--kube-api-qps=2000',
    '--kube-api-burst=4000',
    '--concurrent-namespace-syncs=20',
  ];
}
