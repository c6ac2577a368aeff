import { fieldManager } from '../api/groupVersion.ts';
import { ApiStatusError } from '../kube/apiStatusError.ts';
import type { KubeClient } from '../kube/client.ts';

/**
 * Whether the API server enforces our limits: a dry run of what the policy must refuse. A right to write a Secret is a
 * right to make one of type service-account-token and to read what the server fills in, so the takeover itself is tried
 * (nothing is stored), and, where our Secret is already there and its type cannot change, a finalizer on it. Throws where
 * the API server gives no answer of its own.
 */
export async function isPolicyInForce(
  client: Pick<KubeClient, 'request'>,
  { namespace, secretName }: { namespace: string; secretName: string },
): Promise<boolean> {
  const takeover = {
    metadata: { name: secretName, namespace, annotations: { 'kubernetes.io/service-account.name': 'default' } },
    type: 'kubernetes.io/service-account-token',
  };
  const finalizer = {
    metadata: { name: secretName, namespace, finalizers: ['ecr.pullsecrets.io/policy-probe'] },
    type: 'kubernetes.io/dockerconfigjson',
    data: { '.dockerconfigjson': Buffer.from('{"auths":{}}').toString('base64') },
  };
  for (const attempt of [takeover, finalizer]) {
    const refusal = await refusalOf(attempt, client, { namespace, secretName });
    if (refusal === 'policy') return true;
    if (refusal === null) return false;
  }
  return false;
}

async function refusalOf(
  attempt: object,
  client: Pick<KubeClient, 'request'>,
  { namespace, secretName }: { namespace: string; secretName: string },
): Promise<'policy' | 'other' | null> {
  try {
    await client.request({
      method: 'PATCH',
      patch: 'apply',
      path: `/api/v1/namespaces/${namespace}/secrets/${secretName}`,
      query: { fieldManager, force: 'true', dryRun: 'All' },
      body: { apiVersion: 'v1', kind: 'Secret', ...attempt },
      metadataOnly: true,
    });
    return null;
  } catch (error) {
    if (!(error instanceof ApiStatusError)) throw error;
    return isPolicyDenial(error) ? 'policy' : 'other';
  }
}

/** A denial by policy has the status of a failed JSON patch or of a missing right; only its cause tells. */
export function isPolicyDenial(error: ApiStatusError): boolean {
  return error.causes.some((cause) => cause.message?.startsWith('ValidatingAdmissionPolicy ') === true);
}
