import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const harness = fileURLToPath(new URL('harness/', import.meta.url));

/**
 * kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kubectl, etcd and pause; the folder they are in. With
 * CLUSTER_KUBERNETES=oldest the first two are of the oldest version that is supported.
 */
export async function controlPlaneBinaries(): Promise<string> {
  const newest = await newestBinaries();
  return process.env['CLUSTER_KUBERNETES'] === 'oldest' ? oldestBinaries(newest) : newest;
}

async function newestBinaries(): Promise<string> {
  const kube = join(harness, 'kube');
  const version = pinned(kube, 'k8s.io/kubernetes');
  const commands = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kubectl'];
  const name = `kubernetes-${version}-etcd-${pinned(kube, 'go.etcd.io/etcd/server/v3')}`;
  return cached(name, ['kube/go.mod', 'kube/go.sum', 'pause/main.go'], async (out) => {
    await buildKubernetes(kube, out, commands);
    await goBuild(kube, '-s -w', join(out, 'etcd'), ['go.etcd.io/etcd/server/v3']);
    await goBuild(join(harness, 'pause'), '-s -w', join(out, 'pause'), ['.']);
  });
}

async function oldestBinaries(newest: string): Promise<string> {
  const kube = join(harness, 'kube-oldest');
  const commands = ['kube-apiserver', 'kube-controller-manager'];
  const name = `kubernetes-${pinned(kube, 'k8s.io/kubernetes')}-beside-${basename(newest)}`;
  return cached(name, ['kube-oldest/go.mod', 'kube-oldest/go.sum'], async (out) => {
    for (const file of readdirSync(newest)) copyFileSync(join(newest, file), join(out, file));
    await buildKubernetes(kube, out, commands);
  });
}

async function buildKubernetes(module: string, out: string, commands: readonly string[]): Promise<void> {
  const version = pinned(module, 'k8s.io/kubernetes');
  const minor = version.split('.')[1] ?? '';
  const component = 'k8s.io/component-base/version';
  const stamp = [`gitVersion=${version}`, 'gitMajor=1', `gitMinor=${minor}`].map((text) => `-X ${component}.${text}`);
  const packages = commands.map((command) => `k8s.io/kubernetes/cmd/${command}`);
  await goBuild(module, `-s -w ${stamp.join(' ')}`, `${out}/`, packages);
}

/** The path of helm. */
export async function helmBinary(): Promise<string> {
  const helm = join(harness, 'helm');
  const version = pinned(helm, 'helm.sh/helm/v3');
  const stamp = `-X helm.sh/helm/v3/internal/version.version=${version}`;
  const dir = await cached(`helm-${version}`, ['helm/go.mod', 'helm/go.sum'], (out) =>
    goBuild(helm, `-s -w ${stamp}`, join(out, 'helm'), ['helm.sh/helm/v3/cmd/helm']),
  );
  return join(dir, 'helm');
}

/** The version that a folder's go.mod requires of a module: the one place where versions are pinned. */
function pinned(dir: string, module: string): string {
  const line = readFileSync(join(dir, 'go.mod'), 'utf8')
    .split('\n')
    .find((line) => line.trim().startsWith(`${module} `));
  const version = line?.trim().split(' ')[1];
  if (version === undefined) throw new Error(`${dir}/go.mod does not require ${module}`);
  return version;
}

/**
 * Builds into CLUSTER_CACHE (default ~/.cache/ecr-pull-secrets) once per name and content of the files that decide what
 * is built. The finished folder appears by one rename: several test runs may build at the same time.
 */
async function cached(name: string, inputs: readonly string[], build: (out: string) => Promise<void>): Promise<string> {
  const root = process.env['CLUSTER_CACHE'] ?? join(homedir(), '.cache', 'ecr-pull-secrets');
  const hash = createHash('sha256');
  for (const input of inputs) hash.update(readFileSync(join(harness, input)));
  const dir = join(root, `${name}-${hash.digest('hex').slice(0, 8)}`);
  if (existsSync(dir)) return dir;
  mkdirSync(root, { recursive: true });
  const out = mkdtempSync(join(root, '.building-'));
  try {
    console.error(`building ${basename(dir)} (minutes the first time, then cached)`);
    await build(out);
    renameSync(out, dir);
  } catch (error) {
    if (!existsSync(dir)) throw error; // else another run was faster
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
  return dir;
}

async function goBuild(module: string, ldflags: string, out: string, packages: readonly string[]): Promise<void> {
  const args = ['build', '-trimpath', '-ldflags', ldflags, '-o', out, ...packages];
  const child = spawn('go', args, { cwd: module, env: { ...process.env, CGO_ENABLED: '0' }, stdio: 'inherit' });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('exit', resolve);
    child.once('error', () => reject(new Error('go is not installed: see scripts/installTools.sh')));
  });
  if (code !== 0) throw new Error(`go build ${packages.join(' ')} failed with exit code ${code}`);
}

// `node test/cluster/binaries.ts [helm]` builds and prints the path.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(process.argv[2] === 'helm' ? await helmBinary() : await controlPlaneBinaries());
}
