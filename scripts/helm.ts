import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const chart = fileURLToPath(new URL('../charts/ecr-pull-secrets', import.meta.url));

/** The oldest Kubernetes that the chart supports: what is rendered must not hang on the version that helm assumes. */
const KUBE_VERSION = '1.30.0';

/**
 * helm: `HELM`, else on the PATH, else the one that the cluster tests have built; null where there is none. Nothing is
 * downloaded or built for it.
 */
export function findHelm(env: NodeJS.ProcessEnv = process.env): string | null {
  const { HELM, PATH = '', CLUSTER_CACHE = join(homedir(), '.cache', 'ecr-pull-secrets') } = env;
  const built = existsSync(CLUSTER_CACHE)
    ? readdirSync(CLUSTER_CACHE).filter((folder) => folder.startsWith('helm-')) //
    : [];
  const candidates = [
    ...(HELM ? [HELM] : []),
    ...PATH.split(delimiter).map((folder) => join(folder, 'helm')),
    ...built.map((folder) => join(CLUSTER_CACHE, folder, 'helm')),
  ];
  return candidates.find(isProgram) ?? null;
}

/** Renders the chart: its objects in Helm's order, and hooks. Throws with helm's own words where it refuses. */
export async function helmTemplate(
  helm: string,
  o: { release?: string; namespace?: string; args?: readonly string[] } = {},
): Promise<string> {
  const { release = 'ecr-pull-secrets', namespace = 'ecr-pull-secrets', args = [] } = o;
  const flags = ['--namespace', namespace, '--kube-version', KUBE_VERSION, ...args];
  const { stdout } = await promisify(execFile)(helm, ['template', release, chart, ...flags], {
    maxBuffer: 16 * 1024 * 1024,
  });
  return stdout;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
