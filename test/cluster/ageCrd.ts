import { readFileSync } from 'node:fs';
import { request } from 'undici';
import { crdName } from '../../src/api/groupVersion.ts';
import type { Cluster } from './cluster.ts';
import type { KubeObject } from './kubeApi.ts';

/**
 * Makes our CRD a day old, behind the API server's back: while it is younger than ten minutes, an operator that has just
 * started removes nothing that a resource might want which is still to be restored, and no test can wait for that.
 */
export async function ageCrd(cluster: Cluster): Promise<void> {
  const key = `/registry/apiextensions.k8s.io/customresourcedefinitions/${crdName}`;
  const { kvs = [] } = await ask<{ kvs?: { value: string }[] }>(cluster, 'range', { key: base64(key) });
  const [stored] = kvs;
  if (stored === undefined) throw new Error(`etcd has no ${key}`);
  const crd = JSON.parse(Buffer.from(stored.value, 'base64').toString('utf8')) as KubeObject;
  const creationTimestamp = `${new Date(Date.now() - 86_400_000).toISOString().slice(0, 19)}Z`;
  const aged = JSON.stringify({ ...crd, metadata: { ...crd.metadata, creationTimestamp } });
  await ask(cluster, 'put', { key: base64(key), value: base64(aged) });
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${crdName}`;
  await cluster.admin.waitFor(path, ({ metadata }) => metadata.creationTimestamp === creationTimestamp);
}

// etcd's own JSON gateway, where the API server of this cluster finds it.
async function ask<T>(cluster: Cluster, what: 'range' | 'put', body: object): Promise<T> {
  const flags = readFileSync(`/proc/${cluster.apiServer().pid}/cmdline`, 'utf8').split('\0');
  const etcd = flags.find((flag) => flag.startsWith('--etcd-servers='))?.slice('--etcd-servers='.length);
  const answer = await request(`${etcd}/v3/kv/${what}`, { method: 'POST', body: JSON.stringify(body) });
  if (answer.statusCode !== 200) throw new Error(`etcd: ${answer.statusCode} ${await answer.body.text()}`);
  return (await answer.body.json()) as T;
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
