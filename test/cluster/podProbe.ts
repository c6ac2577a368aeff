import type { Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import type { KubeApi, KubeObject } from './kubeApi.ts';

export interface Pod extends KubeObject {
  spec: { nodeName?: string };
  status: {
    phase: string;
    conditions?: { type: string; status: string; message?: string }[];
    containerStatuses?: { restartCount: number; state?: object; lastState?: object }[];
  };
}

interface PodEvent extends KubeObject {
  involvedObject: { name: string };
  reason: string;
  message: string;
}

export interface RestrictedPod {
  name: string;
  namespace: string;
  image: string;
  command?: string[];
  args?: string[];
}

/** A pod as Pod Security `restricted` wants it, with a user such as OpenShift gives, and a root that is not written. */
export function restrictedPod({ name, namespace, ...container }: RestrictedPod): KubeObject {
  const securityContext = {
    ...{ runAsUser: 1000680000, runAsGroup: 0, runAsNonRoot: true, allowPrivilegeEscalation: false },
    ...{ readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] }, seccompProfile: { type: 'RuntimeDefault' } },
  };
  const spec = {
    containers: [{ name: 'main', ...container, securityContext }],
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: 0,
  };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace }, spec };
}

/** Waits until a pod has ended well; else an error with all that the cluster says of it. */
export async function untilSucceeded(admin: KubeApi, { name, namespace }: RestrictedPod): Promise<void> {
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  try {
    const hasEnded = ({ status }: Pod) => status.phase === 'Succeeded' || status.phase === 'Failed';
    const { status } = await admin.waitFor<Pod>(path, hasEnded, 60_000);
    if (status.phase !== 'Succeeded') throw new Error(`pod ${name} has ended as ${status.phase}`);
  } catch (cause) {
    throw new Error(`pod ${name}: ${await describePods(admin, namespace)}`, { cause });
  }
}

/** For messages: the state of each pod's containers, and what the kubelet and the scheduler told. */
export async function describePods(admin: KubeApi, namespace: string): Promise<string> {
  const pods = await admin.list<Pod>(`/api/v1/namespaces/${namespace}/pods`, {});
  const events = await admin.list<PodEvent>(`/api/v1/namespaces/${namespace}/events`, {});
  const lines = pods.flatMap(({ metadata, status }) => [
    `${metadata.name}: ${status.phase}`,
    ...(status.conditions ?? []).flatMap(({ type, message }) => (message ? [`  ${type}: ${message}`] : [])),
    ...(status.containerStatuses ?? []).map(({ state, lastState }) => `  ${JSON.stringify({ state, lastState })}`),
    ...events
      .filter(({ involvedObject }) => involvedObject.name === metadata.name)
      .map(({ reason, message }) => `  ${reason}: ${message}`),
  ]);
  return lines.join('\n');
}

/**
 * null, or why this machine runs no pods as `restricted` wants them, with nothing of ours in them: Kubernetes' own pause,
 * and the plain Node of `nodeImage`.
 */
export async function whyNoRestrictedPods(
  cluster: Cluster,
  namespace: string,
  nodeImage: string,
): Promise<string | null> {
  const { admin } = cluster;
  const pause = { name: 'plain-pause', namespace, image: 'localhost/pause:1' };
  const node = { name: 'plain-node', namespace, image: nodeImage, command: ['/nodejs/bin/node', '--version'] };
  try {
    for (const pod of [pause, node]) await admin.create(restrictedPod(pod));
    const isRunning = async () => {
      const found = await admin.get<Pod>(`/api/v1/namespaces/${namespace}/pods/${pause.name}`);
      return found?.status.phase === 'Running';
    };
    await Promise.all([eventually(`pod ${pause.name} runs`, isRunning, 90_000), untilSucceeded(admin, node)]);
    return null;
  } catch (error) {
    return `${error instanceof Error ? error.message : String(error)}\n${await describePods(admin, namespace)}`;
  } finally {
    for (const { name } of [pause, node]) await admin.delete(`/api/v1/namespaces/${namespace}/pods/${name}`);
  }
}
