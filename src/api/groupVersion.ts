// The names that users, the chart, the policy and our own objects of earlier versions hang on: none may change silently.

export const group = 'ecr.pullsecrets.io';
export const version = 'v1alpha1';
export const apiVersion = `${group}/${version}`;

export const kind = 'ClusterECRPullSecret';
export const plural = 'clusterecrpullsecrets';
export const crdName = `${plural}.${group}`;

/** Path of all resources; one is at `${resourcesPath}/NAME`. */
export const resourcesPath = `/apis/${apiVersion}/${plural}`;

/** Field manager of every write, `app.kubernetes.io/managed-by`, and the name of Lease, ServiceAccount and policy. */
export const fieldManager = 'ecr-pull-secrets';
export const operatorName = 'ecr-pull-secrets';

export const defaultSecretName = 'ecr-pull';
export const defaultCredentialSecretName = 'aws-credentials';

export const tokenStoreName = 'ecr-pull-tokens';
export const tokenStoreType = `${group}/tokens`;

export const dockerConfigType = 'kubernetes.io/dockerconfigjson';
export const dockerConfigKey = '.dockerconfigjson';

export const labels = {
  managedBy: 'app.kubernetes.io/managed-by',
  excludeFromBackup: 'velero.io/exclude-from-backup',
} as const;

export const annotations = {
  /** On our Secret, JSON: host → sha256 of its entry. */
  hosts: `${group}/hosts`,
  /** On our Secret, JSON: the ServiceAccount patterns that were served, until their entries are gone. */
  serviceAccounts: `${group}/service-accounts`,
  /** On a Namespace or ServiceAccount, "true": nothing of ours stays there. */
  ignore: `${group}/ignore`,
  /** On a custom resource: any new value asks for a refresh now. */
  refreshRequestedAt: `${group}/refresh-requested-at`,
} as const;
