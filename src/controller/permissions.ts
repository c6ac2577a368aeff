import type { Clock } from '../clock.ts';
import type { KubeClient } from '../kube/client.ts';

export interface Right {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly namespace?: string;
  readonly name?: string;
}

const ASK_AGAIN_MS = 15_000;
// RBAC knows no "apply": it is a patch, and a create where the object is absent.
const VERBS_OF = new Map([['apply', ['patch', 'create']]]);

/**
 * The rights that the operator was found to lack. A 403 alone proves nothing, since a quota or a webhook answers so for
 * one namespace: the API server is asked. While something is missing it is asked again, as nothing tells of a role
 * that was mended.
 */
export class Permissions {
  readonly #missing = new Map<string, Right>();
  readonly #client: Pick<KubeClient, 'request'>;
  readonly #clock: Clock;
  readonly #onChange: () => void;
  #cancel: (() => void) | null = null;

  constructor(options: { client: Pick<KubeClient, 'request'>; clock: Clock; onChange: () => void }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#onChange = options.onChange;
  }

  /** "patch serviceaccounts", in order. */
  get missing(): string[] {
    return [...this.#missing.keys()].sort();
  }

  lacks(verb: string, resource: string): boolean {
    return this.#missing.has(`${verb} ${resource}`);
  }

  /** After a 403: whether a right is truly missing. */
  async confirmMissing(right: Right): Promise<boolean> {
    const missing: boolean[] = [];
    for (const verb of VERBS_OF.get(right.verb) ?? [right.verb]) missing.push(await this.#confirm({ ...right, verb }));
    return missing.includes(true);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  async #confirm(right: Right): Promise<boolean> {
    const key = `${right.verb} ${right.resource}`;
    if (this.#missing.has(key)) return true;
    if (await this.#isAllowed(right)) return false;
    this.#missing.set(key, right);
    this.#askLater();
    this.#onChange();
    return true;
  }

  #askLater(): void {
    this.#cancel ??= this.#clock.after(ASK_AGAIN_MS, () => {
      this.#cancel = null;
      void this.#askAgain();
    });
  }

  async #askAgain(): Promise<void> {
    let isMended = false;
    for (const [key, right] of this.#missing) {
      if (await this.#isAllowed(right).catch(() => false)) {
        this.#missing.delete(key);
        isMended = true;
      }
    }
    if (this.#missing.size > 0) this.#askLater();
    if (isMended) this.#onChange();
  }

  async #isAllowed({ verb, group, resource, namespace, name }: Right): Promise<boolean> {
    const review = await this.#client.request<{ status?: { allowed?: boolean } }>({
      method: 'POST',
      path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
      body: {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: {
          resourceAttributes: { verb, group, resource, ...(namespace && { namespace }), ...(name && { name }) },
        },
      },
    });
    return review.status?.allowed === true;
  }
}
