import { isDeepStrictEqual } from 'node:util';
import type { KubeObject } from './kubeObject.ts';
import { listOf, mapOf, stringOf } from './kubeObject.ts';
import { pullSecretNames } from './objectRules.ts';
import type { Admission, AdmissionRequest } from './objectWriter.ts';

export interface OperatorPolicyOptions {
  readonly namespace: string;
  /** All names that our pull Secret has or had. */
  readonly secretNames: readonly string[];
  /** User names that the policy is for. */
  readonly users: readonly string[];
  /** The chart says 403 Forbidden; without a reason a policy answers 422 Invalid. */
  readonly reason?: 'Forbidden' | 'Invalid';
}

const NAME = 'ecr-pull-secrets';

/** The chart's ValidatingAdmissionPolicy, line by line (templates/policy.yaml). */
export function operatorPolicy(o: OperatorPolicyOptions): Admission {
  const { reason = 'Forbidden' } = o;
  return (request) => {
    if (!o.users.includes(request.user.name) || request.subresource !== '' || request.group !== '') return null;
    if (request.resource !== 'secrets' && request.resource !== 'serviceaccounts') return null;
    const why = request.resource === 'secrets' ? secretDenial(request, o) : serviceAccountDenial(request, o);
    if (why === null) return null;
    const message = `ValidatingAdmissionPolicy '${NAME}' with binding '${NAME}' denied request: ${why}`;
    return { reason, code: reason === 'Forbidden' ? 403 : 422, message };
  };
}

function secretDenial(request: AdmissionRequest, o: OperatorPolicyOptions): string | null {
  const { object, oldObject, namespace, name } = request;
  const isStore = namespace === o.namespace && name === 'ecr-pull-tokens';
  if (!isStore && !o.secretNames.includes(name)) return `${NAME} may write no Secret of another name`;
  const type = isStore ? 'ecr.pullsecrets.io/tokens' : 'kubernetes.io/dockerconfigjson';
  if (object && object['type'] !== type) return `${NAME} may write no Secret of another type`;
  if (oldObject && !isOurs(oldObject)) {
    return `this Secret is not of ${NAME}: neither its label app.kubernetes.io/managed-by, nor an annotation, nor managedFields say so`;
  }
  if (!object || (isSame(object, oldObject, 'finalizers') && isSame(object, oldObject, 'ownerReferences'))) return null;
  return `${NAME} may put no finalizer and no owner on a Secret`;
}

function isOurs({ metadata }: KubeObject): boolean {
  const { labels = {}, annotations = {}, managedFields = [] } = metadata;
  return (
    labels['app.kubernetes.io/managed-by'] === NAME ||
    Object.hasOwn(annotations, 'ecr.pullsecrets.io/hosts') ||
    managedFields.some(({ manager, operation }) => manager === NAME && operation === 'Apply')
  );
}

function isSame(object: KubeObject, old: KubeObject | null, field: 'finalizers' | 'ownerReferences'): boolean {
  return isDeepStrictEqual(object.metadata[field] ?? [], old?.metadata[field] ?? []);
}

function serviceAccountDenial(
  { operation, object, oldObject }: AdmissionRequest,
  o: OperatorPolicyOptions,
): string | null {
  const changed = `${NAME} may change nothing of a ServiceAccount but its own entry in imagePullSecrets`;
  if (operation !== 'UPDATE' || !object || !oldObject) return changed;
  if (!isDeepStrictEqual(unchangeable(object, o), unchangeable(oldObject, o))) return changed;
  for (const name of o.secretNames) {
    const count = (of: KubeObject): number => pullSecretNames(of).filter((entry) => entry === name).length;
    if (count(object) > Math.max(1, count(oldObject))) return `${NAME} may add its entry to imagePullSecrets only once`;
  }
  return null;
}

function unchangeable(serviceAccount: KubeObject, { secretNames }: OperatorPolicyOptions): unknown {
  const { labels, annotations, ownerReferences, finalizers } = serviceAccount.metadata;
  const { secrets, automountServiceAccountToken, imagePullSecrets } = serviceAccount;
  const foreign = listOf(imagePullSecrets).filter((entry) => !secretNames.includes(stringOf(mapOf(entry)['name'])));
  return { labels, annotations, ownerReferences, finalizers, secrets, automountServiceAccountToken, foreign };
}
