import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { kubeconfigOf } from './controlPlane.ts';
import { eventually } from './eventually.ts';
import { freePort } from './freePort.ts';
import type { KubeApi } from './kubeApi.ts';
import type { ProcessLedger } from './processLedger.ts';
import { dockerArchive, staticImage } from './staticImage.ts';

const run = promisify(execFile);
const pauseImage = 'localhost/pause:1';

interface ConditionedNode {
  metadata: { name: string };
  status: { conditions: { type: string; status: string; message?: string }[] };
}

/** One node: kube-scheduler, containerd and a kubelet. No kube-proxy: Services have no addresses that work. */
export class ClusterNode {
  readonly name = 'node1';
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async start(o: { bin: string; ledger: ProcessLedger; admin: KubeApi }): Promise<ClusterNode> {
    const { bin, ledger } = o;
    const { dir } = ledger;
    const node = new ClusterNode(dir);
    mkdirSync(join(dir, 'certs.d'));
    writeNetwork(dir, ledger);
    const containerdConfig = writeContainerdConfig(dir);
    ledger.onClose(unmountAll(dir));
    ledger.start('containerd', 'containerd', ['--config', containerdConfig]);
    ledger.onClose(endContainers(dir));
    ledger.start('kube-scheduler', join(bin, 'kube-scheduler'), [
      `--kubeconfig=${kubeconfigOf(dir, 'system:kube-scheduler')}`,
      '--leader-elect=false',
      '--secure-port=0',
    ]);
    await eventually('containerd answers', async () => existsSync(socket(dir)) && (await node.ctr('version')) !== '');
    await node.importImage(dockerArchive(staticImage(readFileSync(join(bin, 'pause')), pauseImage), pauseImage));
    await startKubelet(o);
    return node;
  }

  /** Images of `host` are pulled from `url` from now on, with the credentials that pods have for `host`. */
  routeRegistry(host: string, url: string): void {
    const dir = join(this.#dir, 'certs.d', host);
    mkdirSync(dir, { recursive: true });
    const lines = [`server = "${url}"`, `[host."${url}"]`, '  capabilities = ["pull", "resolve"]', ''];
    writeFileSync(join(dir, 'hosts.toml'), lines.join('\n'));
  }

  /** Runs containerd's own client, in the namespace of the kubelet's images and containers. */
  async ctr(...args: string[]): Promise<string> {
    return (await run('ctr', ['--address', socket(this.#dir), '--namespace', 'k8s.io', ...args])).stdout;
  }

  /** Brings an image (of localhost/ or of the operator's own name) onto the node without a registry; `archive` as `docker save` writes it. */
  async importImage(archive: Buffer | string): Promise<void> {
    let file = archive;
    if (typeof file !== 'string') {
      file = join(this.#dir, 'import.tar');
      writeFileSync(file, archive);
    }
    await this.ctr('images', 'import', file);
  }
}

/** A port can be taken between its choice and the kubelet's start, which then ends: as an init system would, it is started again. */
async function startKubelet(o: { bin: string; ledger: ProcessLedger; admin: KubeApi }, triesLeft = 2): Promise<void> {
  const { dir } = o.ledger;
  const kubelet = o.ledger.start('kubelet', join(o.bin, 'kubelet'), [
    `--config=${await writeKubeletConfig(dir)}`,
    `--kubeconfig=${kubeconfigOf(dir, 'system:node:node1')}`,
    `--root-dir=${join(dir, 'kubelet')}`,
    `--cert-dir=${join(dir, 'kubelet-certs')}`,
    '--hostname-override=node1',
    '--node-ip=127.0.0.1',
  ]);
  const isUp = async () => !kubelet.isRunning() || isReady(await o.admin.get('/api/v1/nodes/node1'), kubelet.logFile);
  await eventually('the node is ready', isUp, 90_000);
  if (kubelet.isRunning()) return;
  const why = `the kubelet has ended: ${endOf(kubelet.logFile)}`;
  if (triesLeft === 0) throw new Error(why);
  console.warn(why);
  await startKubelet(o, triesLeft - 1);
}

/** Throws with what a reader of the failed run needs, whose cluster is gone by then. */
function isReady(node: ConditionedNode | null, logFile: string): true {
  const ready = node?.status.conditions.find(({ type }) => type === 'Ready');
  if (ready?.status === 'True') return true;
  throw new Error(`${ready?.message ?? 'it is not registered'}; the kubelet tells: ${endOf(logFile)}`);
}

function endOf(logFile: string): string {
  return `\n${readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-12).join('\n')}`;
}

function socket(dir: string): string {
  return join(dir, 'containerd.sock');
}

function writeContainerdConfig(dir: string): string {
  const file = join(dir, 'containerd.toml');
  const text = `
version = 2
root = "${join(dir, 'containerd')}"
state = "${join(dir, 'containerd-state')}"
[grpc]
  address = "${socket(dir)}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${join(dir, 'containerd-opt')}"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE runc would end with "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  sandbox_image = "${pauseImage}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${join(dir, 'certs.d')}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${join(dir, 'cni')}"
`;
  writeFileSync(file, text);
  return file;
}

/** A bridge and a subnet for each cluster: two may run side by side. */
function writeNetwork(dir: string, ledger: ProcessLedger): void {
  const id = basename(dir).slice(-6); // mkdtemp's own random part
  const third = createHash('sha256').update(id).digest()[0];
  const ipam = {
    type: 'host-local',
    dataDir: join(dir, 'cni-addresses'),
    ranges: [[{ subnet: `10.244.${third}.0/24` }]],
  };
  const bridge = { type: 'bridge', bridge: `ecr-${id}`, isGateway: true, ipam };
  mkdirSync(join(dir, 'cni'));
  const config = { cniVersion: '1.0.0', name: `pods-${id}`, plugins: [bridge] };
  writeFileSync(join(dir, 'cni', '10-pods.conflist'), JSON.stringify(config));
  ledger.onClose(`ip link delete ecr-${id} 2>/dev/null || true`);
}

async function writeKubeletConfig(dir: string): Promise<string> {
  const file = join(dir, 'kubelet.yaml');
  const config = {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    address: '127.0.0.1',
    port: await freePort(),
    healthzPort: 0,
    podLogsDir: join(dir, 'pod-logs'),
    containerRuntimeEndpoint: `unix://${socket(dir)}`,
    cgroupDriver: 'cgroupfs',
    failCgroupV1: false,
    failSwapOn: false,
    // A kubelet ends what it finds in its part of the cgroups: two of them on one machine must not share it.
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    // Credentials are looked at for images that are on the node already, too; but `importImage` needs none.
    imagePullCredentialsVerificationPolicy: 'NeverVerifyAllowlistedImages',
    preloadedImagesVerificationAllowlist: ['localhost/*', 'ghcr.io/ecr-pull-secrets/*'],
    registryPullQPS: 0,
    serializeImagePulls: false,
    syncFrequency: '10s',
    // A full disk of the machine is not what is tested; images that were imported cannot be pulled again.
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    evictionHard: {
      'memory.available': '0%',
      'nodefs.available': '0%',
      'nodefs.inodesFree': '0%',
      'imagefs.available': '0%',
    },
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

/** Containers and their shims outlive the kubelet and containerd; their network namespaces are mounts of their own. */
function endContainers(dir: string): string {
  return `
    ctr() { timeout 20 ctr --address '${socket(dir)}' --namespace k8s.io "$@" 2>/dev/null; }
    [ -S '${socket(dir)}' ] || exit 0
    for id in $(ctr tasks list --quiet); do ctr tasks delete --force "$id" >/dev/null; done
    for id in $(ctr containers list --quiet); do
      ctr containers info "$id" | grep -o '"path": "/[a-z/]*/netns/cni-[0-9a-f-]*"' | cut -d '"' -f 4
      ctr containers delete "$id" >/dev/null
      rm -f /var/lib/cni/results/*-"$id"-*
    done | sort -u | while read -r netns; do ip netns delete "$(basename "$netns")"; done
    true`;
}

function unmountAll(dir: string): string {
  return `awk -v dir='${dir}/' 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount --lazy "$mount"; done`;
}
