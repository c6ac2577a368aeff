import type { ApiAnswer, ApiRequest } from './apiHandler.ts';
import type { KubeObject } from './kubeObject.ts';
import { builtInTypes, typeKey, type ResourceType } from './resourceTypes.ts';
import type { User } from './objectWriter.ts';

export interface LocalRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Record<string, string>;
  readonly body?: unknown;
  readonly patch?: 'json' | 'merge' | 'apply';
  readonly metadataOnly?: boolean;
  readonly manager?: string;
}

/** An object as a test writes it down. */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: Partial<KubeObject['metadata']> & { name: string };
  [field: string]: unknown;
}

const CONTENT_TYPES = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  apply: 'application/apply-patch+yaml',
};

/** A Status that says no, as an error. */
export class LocalFailure extends Error {
  readonly code: number;
  readonly status: { reason?: string; message?: string; details?: { causes?: { field?: string; message?: string }[] } };

  constructor(code: number, status: LocalFailure['status']) {
    super(`${code} ${status.reason ?? ''}: ${status.message ?? ''}`);
    this.code = code;
    this.status = status;
  }
}

/** Requests in the same tick, without HTTP: what a test does to the cluster, and looks at. */
export class LocalClient {
  readonly #serve: (request: ApiRequest & { path: string }) => ApiAnswer;
  readonly #user: User;

  constructor(serve: (request: ApiRequest & { path: string }) => ApiAnswer, user: User) {
    this.#serve = serve;
    this.#user = user;
  }

  as(user: User): LocalClient {
    return new LocalClient(this.#serve, user);
  }

  /** Throws LocalFailure. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller knows what lies at a path
  request<T = KubeObject>(r: LocalRequest): T {
    const { code, text } = this.#serve({
      method: r.method,
      path: r.path,
      query: new URLSearchParams({ ...(r.manager && { fieldManager: r.manager }), ...r.query }),
      accept:
        r.metadataOnly === true ? 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1' : 'application/json',
      contentType: r.patch ? CONTENT_TYPES[r.patch] : 'application/json',
      userAgent: 'sandbox/1',
      body: r.body === undefined ? '' : JSON.stringify(r.body),
      user: this.#user,
    });
    const body = JSON.parse(text.startsWith('{') ? text : JSON.stringify({ message: text })) as T;
    if (code >= 300) throw new LocalFailure(code, body as LocalFailure['status']);
    return body;
  }

  create(manifest: Manifest): KubeObject {
    return this.request({ method: 'POST', path: collectionOf(manifest), body: manifest });
  }

  /** Server-side apply by force, as `admin` unless told otherwise. */
  apply(manifest: Manifest, o: { manager?: string; force?: boolean } = {}): KubeObject {
    const { manager = 'admin', force = true } = o;
    const path = `${collectionOf(manifest)}/${manifest.metadata.name}`;
    return this.request({
      method: 'PATCH',
      patch: 'apply',
      path,
      manager,
      query: { force: String(force) },
      body: manifest,
    });
  }

  get(path: string): KubeObject {
    return this.request({ method: 'GET', path });
  }

  /** null where it is not there. */
  find(path: string): KubeObject | null {
    try {
      return this.get(path);
    } catch (error) {
      if (error instanceof LocalFailure && error.code === 404) return null;
      throw error;
    }
  }

  list(path: string, query: Record<string, string> = {}): KubeObject[] {
    return this.request<{ items: KubeObject[] | null }>({ method: 'GET', path, query }).items ?? [];
  }

  merge(path: string, body: unknown, manager = 'admin'): KubeObject {
    return this.request({ method: 'PATCH', patch: 'merge', path, body, manager });
  }

  jsonPatch(path: string, body: unknown, manager = 'admin'): KubeObject {
    return this.request({ method: 'PATCH', patch: 'json', path, body, manager });
  }

  replace(path: string, body: unknown, manager = 'admin'): KubeObject {
    return this.request({ method: 'PUT', path, body, manager });
  }

  delete(path: string, body?: unknown): void {
    this.request({ method: 'DELETE', path, ...(body !== undefined && { body }) });
  }
}

/** Where objects of this kind are; a kind that is not built in is plural with an `s`. */
function collectionOf({ apiVersion, kind, metadata }: Manifest): string {
  const known = builtInTypes.find((type) => type.kind === kind && versionOf(type) === apiVersion);
  const plural = known ? known.plural : `${kind.toLowerCase()}s`;
  const base = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return `${base}${metadata.namespace ? `/namespaces/${metadata.namespace}` : ''}/${plural}`;
}

function versionOf(type: ResourceType): string {
  return typeKey(type) === type.plural ? type.version : `${type.group}/${type.version}`;
}
