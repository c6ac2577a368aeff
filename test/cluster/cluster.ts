import { spawn } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AuditLog, type AuditEvent, type AuditFilter } from './auditLog.ts';
import { controlPlaneBinaries } from './binaries.ts';
import { ControlPlane, kubeconfig, kubeconfigOf, type ControlPlaneOptions } from './controlPlane.ts';
import { KubeApi } from './kubeApi.ts';
import { ClusterNode } from './node.ts';
import { ProcessLedger, type StartedProcess } from './processLedger.ts';

export interface ClusterOptions extends ControlPlaneOptions {
  /** With scheduler, containerd and a kubelet: pods run. Needs root and the packages of scripts/installTools.sh. */
  node?: boolean;
}

export interface ServiceAccountName {
  namespace: string;
  name: string;
}

export interface Cluster {
  /** State, kubeconfigs and logs; removed at `stop` unless CLUSTER_KEEP is set. */
  readonly dir: string;
  /** Where the programs are. */
  readonly bin: string;
  readonly server: string;
  /** The API server's CA in PEM. */
  readonly ca: string;
  /** The admin's kubeconfig file. */
  readonly kubeconfig: string;
  readonly admin: KubeApi;
  readonly node: ClusterNode | null;
  /** For further processes that end with the cluster: the operator, a registry. */
  readonly ledger: ProcessLedger;
  /** A kubeconfig file with a fresh token (TokenRequest, 24 h) of a ServiceAccount: its rights and no others. */
  kubeconfigFor(account: ServiceAccountName, o?: { server?: string; tlsServerName?: string }): Promise<string>;
  /** The same as a client. */
  clientFor(account: ServiceAccountName): Promise<KubeApi>;
  /** Runs kubectl as admin and returns what it prints; throws with its error text where it fails. */
  kubectl(...args: string[]): Promise<string>;
  run(command: string, args: readonly string[], o?: { input?: string; kubeconfig?: string }): Promise<string>;
  auditEvents(filter?: AuditFilter): AuditEvent[];
  /** Where the audit log ends now: `auditEvents({ since })` gives what came later. */
  auditMark(): number;
  apiServer(): StartedProcess;
  stopApiServer(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  startApiServer(): Promise<void>;
  restartApiServer(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Where etcd is asked. */
  readonly etcd: string;
  /** Another API server over the same data and credentials, which asks etcd at that address. */
  startApiServerBeside(etcd: string): Promise<{ server: string; process: StartedProcess }>;
  /** Changes etcd's folder while etcd, API server and controller manager are down. */
  whileDown(change: (etcdDir: string) => Promise<void> | void): Promise<void>;
  stop(): Promise<void>;
}

/**
 * A real Kubernetes on loopback, 4 s without a node and some 10 s with one. Several can run side by side. If the test
 * process dies without `stop`, all of it is stopped and removed nevertheless.
 */
export async function startCluster(o: ClusterOptions = {}): Promise<Cluster> {
  const bin = await controlPlaneBinaries();
  const dir = mkdtempSync(join(tmpdir(), 'ecr-cluster-'));
  const ledger = new ProcessLedger(dir);
  if (!process.env['CLUSTER_KEEP']) ledger.onClose(`rm -rf --one-file-system -- '${dir}'`);
  try {
    const plane = await ControlPlane.start(bin, ledger, o);
    const node = o.node ? await ClusterNode.start({ bin, ledger, admin: plane.admin }) : null;
    return clusterOf({ bin, ledger, plane, node });
  } catch (error) {
    if (process.env['CLUSTER_KEEP']) console.error(`the logs of the cluster that did not start: ${dir}`);
    await ledger.close();
    throw error;
  }
}

function clusterOf(o: { bin: string; ledger: ProcessLedger; plane: ControlPlane; node: ClusterNode | null }): Cluster {
  const { bin, ledger, plane, node } = o;
  const { dir } = ledger;
  const { admin, server, ca } = plane;
  const adminKubeconfig = kubeconfigOf(dir, 'admin');
  const audit = new AuditLog(plane.auditLogFile);
  const clients: KubeApi[] = [admin];

  const tokenOf = async ({ namespace, name }: ServiceAccountName): Promise<string> => {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
    const body = { spec: { expirationSeconds: 86_400 } };
    const answer = await admin.request<{ status: { token: string }; message?: string }>('POST', path, { body });
    if (answer.status !== 201) throw new Error(`no token for ${namespace}/${name}: ${answer.body.message}`);
    return answer.body.status.token;
  };

  const run: Cluster['run'] = (command, args, { input, kubeconfig = adminKubeconfig } = {}) =>
    output(command, args, input, {
      ...process.env,
      PATH: `${bin}:${process.env['PATH']}`,
      KUBECONFIG: kubeconfig,
      KUBECACHEDIR: join(dir, 'kubectl-cache'),
    });

  return {
    dir,
    bin,
    server,
    ca,
    kubeconfig: adminKubeconfig,
    admin,
    node,
    ledger,
    async kubeconfigFor(account, options = {}) {
      const token = await tokenOf(account);
      const user = `${account.namespace}-${account.name}`;
      const file = join(mkdtempSync(join(dir, 'kubeconfig-')), `${user}.json`);
      const text = kubeconfig({ server, ca, token, user, namespace: account.namespace, ...options });
      writeFileSync(file, text, { mode: 0o600 });
      return file;
    },
    async clientFor(account) {
      const client = new KubeApi({ server, ca, token: await tokenOf(account) });
      clients.push(client);
      return client;
    },
    kubectl: (...args) => run('kubectl', args),
    run,
    auditEvents: (filter) => audit.events(filter),
    auditMark: () => audit.mark(),
    apiServer: () => plane.apiServer,
    stopApiServer: (signal) => plane.stopApiServer(signal),
    startApiServer: () => plane.startApiServer(),
    async restartApiServer(signal) {
      await plane.stopApiServer(signal);
      await plane.startApiServer();
    },
    etcd: plane.etcd,
    startApiServerBeside: (etcd) => plane.startApiServerBeside(etcd),
    whileDown: (change) => plane.whileDown(change),
    async stop() {
      await Promise.all(clients.map((client) => client.close()));
      await ledger.close();
    },
  };
}

function output(command: string, args: readonly string[], input = '', env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: 'pipe' });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (bytes: Buffer) => out.push(bytes));
    child.stderr.on('data', (bytes: Buffer) => err.push(bytes));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(Buffer.concat(out).toString('utf8'));
      else reject(new Error(`${command} ${args.join(' ')}: exit code ${code}\n${Buffer.concat(err).toString('utf8')}`));
    });
    child.stdin.once('error', () => {}); // a command that reads nothing
    child.stdin.end(input);
  });
}
