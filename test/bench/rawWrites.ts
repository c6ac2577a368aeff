import { inParallel } from '../cluster/inParallel.ts';
import type { KubeApi } from '../cluster/kubeApi.ts';

const LABELS = { 'app.kubernetes.io/managed-by': 'ecr-pull-secrets', 'velero.io/exclude-from-backup': 'true' };

/**
 * The limit that the operator is measured against: the same writes for each namespace and its ServiceAccounts, with the
 * operator's own token and rights, over 16 connections, and no logic at all.
 */
export async function rawWrites(
  client: KubeApi,
  namespaces: readonly string[],
  { auth, accounts = ['default'] }: { auth: string; accounts?: readonly string[] },
): Promise<void> {
  const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
  const document = JSON.stringify({ auths: { [host]: { auth } } });
  const data = { '.dockerconfigjson': Buffer.from(document).toString('base64') };
  const annotations = {
    'ecr.pullsecrets.io/hosts': JSON.stringify({ [host]: '0'.repeat(64) }),
    'ecr.pullsecrets.io/service-accounts': '[{"names":["default"],"exclude":[]}]',
  };
  const accept = { accept: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1' };
  await inParallel(namespaces, async (namespace) => {
    const secret = await client.request('PATCH', `/api/v1/namespaces/${namespace}/secrets/ecr-pull`, {
      query: { fieldManager: 'ecr-pull-secrets' },
      contentType: 'application/apply-patch+yaml',
      headers: accept,
      body: {
        apiVersion: 'v1',
        kind: 'Secret',
        type: 'kubernetes.io/dockerconfigjson',
        metadata: { name: 'ecr-pull', namespace, labels: LABELS, annotations },
        data,
      },
    });
    if (secret.status !== 201) throw new Error(`the raw Secret of ${namespace}: ${secret.status}`);
    for (const account of accounts) await addEntry(client, `${namespace}/serviceaccounts/${account}`);
  });
}

async function addEntry(client: KubeApi, account: string): Promise<void> {
  const { status } = await client.request('PATCH', `/api/v1/namespaces/${account}`, {
    query: { fieldManager: 'ecr-pull-secrets' },
    contentType: 'application/json-patch+json',
    body: [{ op: 'add', path: '/imagePullSecrets', value: [{ name: 'ecr-pull' }] }],
  });
  if (status !== 200) throw new Error(`the raw entry of ${account}: ${status}`);
}
