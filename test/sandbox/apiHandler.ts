import { parse as parseYaml } from 'yaml';
import { ApiFailure, badRequest, forbidden, notFound, type Cause } from './apiFailure.ts';
import type { ClusterLife } from './clusterLife.ts';
import type { RequestInfo } from './faults.ts';
import { applyJsonPatch, applyMergePatch } from './jsonPatch.ts';
import { isMap, mapOf, type KubeObject } from './kubeObject.ts';
import type { ObjectStore, Page } from './objectStore.ts';
import type { ObjectWriter, User, WriteContext, Written } from './objectWriter.ts';
import { formOf, listText, textOf, type Form } from './representation.ts';
import { accessReviewType, crdType, namespaceType, serviceAccountType } from './resourceTypes.ts';
import type { Route } from './route.ts';
import { selectorOf } from './selector.ts';

export interface ApiRequest {
  readonly method: string;
  readonly query: URLSearchParams;
  readonly accept: string | undefined;
  readonly contentType: string | undefined;
  readonly userAgent: string | undefined;
  readonly body: string;
  readonly user: User;
}

export interface ApiAnswer {
  readonly code: number;
  readonly text: string;
  readonly headers?: Record<string, string>;
}

/** What RBAC decides on. */
export interface Attributes {
  readonly user: User;
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
}

export type Authorizer = (attributes: Attributes) => boolean;

export interface HandlerParts {
  readonly store: ObjectStore;
  readonly writer: ObjectWriter;
  readonly life: ClusterLife;
  readonly authorize: Authorizer;
}

const LARGEST_BODY = 3 * 2 ** 20; // bytes

/** One request about a resource, watches apart. Throws ApiFailure. */
export function handle(request: ApiRequest, route: Route, parts: HandlerParts): ApiAnswer {
  if (request.body.length > LARGEST_BODY) {
    const message = 'limit is 3145728';
    throw new ApiFailure({
      code: 413,
      reason: 'RequestEntityTooLarge',
      message: `Request entity too large: ${message}`,
    });
  }
  authorise(attributesOf(request, route), parts.authorize);
  needInitialised(route, parts);
  if (route.type === accessReviewType) return review(request, parts.authorize);
  if (route.subresource === 'scale') return scale(request, route, parts);
  const form = formOf(request.accept);
  if (request.method === 'GET') return route.name === '' ? list(request, route, parts) : get(route, parts, form);
  if (request.method === 'DELETE') return remove(request, route, parts);
  const { code, object } = write(request, route, parts);
  return { code, text: textOf(object, form) };
}

/** A real API server needs a moment, and answers 429 meanwhile. */
export function needInitialised({ type }: Route, { life }: Pick<HandlerParts, 'life'>): void {
  if (!life.isInitialising(type)) return;
  const message = 'storage is (re)initializing';
  const o = { details: { retryAfterSeconds: 1 }, headers: { 'retry-after': '1' } };
  throw new ApiFailure({ code: 429, reason: 'TooManyRequests', message, ...o });
}

export function verbOf(method: string, route: Route, query: URLSearchParams): RequestInfo['verb'] {
  if (method === 'GET') {
    if (isWatch(query)) return 'watch';
    return route.name === '' ? 'list' : 'get';
  }
  if (method === 'DELETE') return route.name === '' ? 'deletecollection' : 'delete';
  return method === 'POST' ? 'create' : method === 'PUT' ? 'update' : 'patch';
}

export function isWatch(query: URLSearchParams): boolean {
  return ['true', '1'].includes(query.get('watch') ?? '');
}

/** The name of a list is that of its field selector; a POST has none. */
export function attributesOf({ method, query, user }: ApiRequest, route: Route): Attributes {
  const verb = verbOf(method, route, query);
  const { type, namespace = '', subresource } = route;
  let { name } = route;
  if (name === '' && ['list', 'watch', 'deletecollection'].includes(verb)) {
    name = selectorOf(query, route.namespace).name ?? '';
  }
  // A namespace itself is in its own namespace.
  const inNamespace = type === namespaceType ? name : namespace;
  return { user, verb, group: type.group, resource: type.plural, subresource, namespace: inNamespace, name };
}

export function authorise(attributes: Attributes, authorize: Authorizer): void {
  if (authorize(attributes)) return;
  const { user, verb, group, resource, subresource, namespace, name } = attributes;
  const full = subresource ? `${resource}/${subresource}` : resource;
  const where = namespace ? `in the namespace "${namespace}"` : 'at the cluster scope';
  const why = `User "${user.name}" cannot ${verb} resource "${full}" in API group "${group}" ${where}`;
  throw forbidden({ group, plural: resource, kind: '' }, name, why);
}

function get({ type, namespace, name }: Route, { store }: HandlerParts, form: Form): ApiAnswer {
  const object = store.get(type, namespace, name);
  if (!object) throw notFound(type, name);
  return { code: 200, text: textOf(object, form) };
}

function list({ query, accept }: ApiRequest, { type, namespace }: Route, { store }: HandlerParts): ApiAnswer {
  const limit = Number(query.get('limit') ?? 0);
  const token = query.get('continue') ?? '';
  checkVersion(query, store);
  const selector = selectorOf(query, namespace);
  const page =
    token === ''
      ? store.firstPage(store.list(type, selector.namespace).filter(selector.matches), limit)
      : store.nextPage(token, limit);
  if (!page) throw badRequest('continue key is not valid: illegal base64 data');
  const hasSelectors = query.has('fieldSelector') || query.has('labelSelector');
  const text = listText(page.objects, { type, form: formOf(accept), metadata: pageMetadata(page, hasSelectors) });
  return { code: 200, text };
}

function pageMetadata({ version, next, remaining }: Page, hasSelectors: boolean): object {
  return {
    resourceVersion: String(version),
    ...(next !== '' && { continue: next }),
    ...(remaining > 0 && !hasSelectors && { remainingItemCount: remaining }),
  };
}

function checkVersion(query: URLSearchParams, store: ObjectStore): void {
  const version = Number(query.get('resourceVersion') ?? 0);
  if (version <= store.version) return;
  const message = `Timeout: Too large resource version: ${version}, current: ${store.version}`;
  const causes: Cause[] = [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }];
  const details = { causes, retryAfterSeconds: 1 };
  throw new ApiFailure({ code: 504, reason: 'Timeout', message, details, headers: { 'retry-after': '1' } });
}

function write(request: ApiRequest, route: Route, parts: HandlerParts): Written {
  const { writer } = parts;
  const { method } = request;
  if (method === 'POST') {
    if (route.name !== '') throw notAllowed();
    const body = jsonOf(request.body);
    const name = nameOf(body);
    return writer.create(
      { ...mapOf(body), metadata: { ...mapOf(mapOf(body)['metadata']), name } },
      contextOf(request, { ...route, name }),
    );
  }
  if (route.name === '') throw notAllowed();
  const context = contextOf(request, route);
  if (method === 'PUT') {
    const body = jsonOf(request.body);
    return writer.update(context, () => body, { checkUid: true });
  }
  if (method !== 'PATCH') throw notAllowed();
  return patch(request, context, parts);
}

function patch(request: ApiRequest, context: WriteContext, { writer, store, authorize }: HandlerParts): Written {
  const { type, namespace, name } = context;
  const kind = patchOf(request.contentType);
  if (kind === 'apply') {
    if (!request.query.get('fieldManager')) {
      throw new ApiFailure({
        ...{ code: 422, reason: 'Invalid' },
        message: 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
        details: {
          causes: [
            {
              reason: 'FieldValueRequired',
              message: 'Required value: is required for apply patch',
              field: 'fieldManager',
            },
          ],
        },
      });
    }
    if (!store.get(type, namespace, name)) {
      const { user, subresource } = context;
      const { group, plural: resource } = type;
      authorise({ user, verb: 'create', group, resource, subresource, namespace: namespace ?? '', name }, authorize);
    }
    return writer.apply(yamlOf(request.body), context, request.query.get('force') === 'true');
  }
  const body = jsonOf(request.body);
  if (kind === 'json') return writer.update(context, (live) => applyJsonPatch(live, body));
  if (kind === null || (kind === 'strategic' && type.schema)) {
    const message = `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml`;
    throw new ApiFailure({ code: 415, reason: 'UnsupportedMediaType', message });
  }
  if (!isMap(body)) throw badRequest('error decoding patch: json: cannot unmarshal into Go value of type map');
  return writer.update(context, (live) => applyMergePatch(live, body));
}

export function patchOf(contentType: string | undefined): RequestInfo['patch'] {
  const type = (contentType ?? '').split(';')[0]?.trim();
  if (type === 'application/json-patch+json') return 'json';
  if (type === 'application/merge-patch+json') return 'merge';
  if (type === 'application/apply-patch+yaml') return 'apply';
  return type === 'application/strategic-merge-patch+json' ? 'strategic' : null;
}

function remove(request: ApiRequest, route: Route, { store, writer, life }: HandlerParts): ApiAnswer {
  const { type, namespace, name } = route;
  if (name === '') {
    const selector = selectorOf(request.query, namespace);
    for (const object of store.list(type, selector.namespace).filter(selector.matches)) {
      const at = { ...route, namespace: object.metadata.namespace, name: object.metadata.name };
      writer.delete(contextOf(request, at), {});
    }
    return { code: 200, text: JSON.stringify(success({})) };
  }
  const options = request.body === '' ? {} : mapOf(jsonOf(request.body));
  const context = contextOf(request, route, options);
  const live = store.get(type, namespace, name);
  const isLong = type === namespaceType || type === crdType;
  if (live && isLong && !context.dryRun) {
    return {
      code: 200,
      text: textOf(type === namespaceType ? life.deleteNamespace(live) : life.deleteCrd(live), formOf(request.accept)),
    };
  }
  const left = writer.delete(context, mapOf(options['preconditions']));
  // Of a ServiceAccount the answer is what it was.
  const shown = left ?? (type === serviceAccountType ? live : null);
  if (shown) return { code: 200, text: textOf(shown, formOf(request.accept)) };
  const details = { name, ...(type.group && { group: type.group }), kind: type.plural, uid: live?.metadata.uid };
  return { code: 200, text: JSON.stringify(success(details)) };
}

function success(details: object): object {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
}

function review({ body, user, method }: ApiRequest, authorize: Authorizer): ApiAnswer {
  if (method !== 'POST') throw notAllowed();
  const object = mapOf(jsonOf(body));
  const asked = mapOf(mapOf(object['spec'])['resourceAttributes']) as Record<string, string | undefined>;
  const { verb = '', group = '', resource = '', subresource = '', namespace = '', name = '' } = asked;
  const allowed = authorize({ user, verb, group, resource, subresource, namespace, name });
  const answer = { ...object, metadata: { creationTimestamp: null }, status: { allowed } };
  return { code: 201, text: JSON.stringify(answer) };
}

function scale(request: ApiRequest, route: Route, { store, writer }: HandlerParts): ApiAnswer {
  const { type, namespace, name } = route;
  let live = store.get(type, namespace, name);
  if (!live) throw notFound(type, name);
  if (request.method !== 'GET') {
    const replicas = mapOf(mapOf(jsonOf(request.body))['spec'])['replicas'];
    const context = contextOf(request, { ...route, subresource: '' });
    const change = (object: KubeObject): object => ({ ...object, spec: { ...mapOf(object['spec']), replicas } });
    live = writer.update(context, change).object;
  }
  const { uid, resourceVersion, creationTimestamp } = live.metadata;
  const text = JSON.stringify({
    ...{ kind: 'Scale', apiVersion: 'autoscaling/v1' },
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: mapOf(live['spec'])['replicas'] ?? 0 },
    status: { replicas: mapOf(live['status'])['replicas'] ?? 0 },
  });
  return { code: 200, text };
}

function contextOf(request: ApiRequest, route: Route, options: Record<string, unknown> = {}): WriteContext {
  const { query, userAgent, user } = request;
  const { type, namespace, name, subresource } = route;
  return {
    ...{ type, namespace, name, user, subresource },
    manager: query.get('fieldManager') || (userAgent ?? '').split('/')[0] || 'unknown',
    dryRun: isDryRun(query) || (Array.isArray(options['dryRun']) && options['dryRun'].length > 0),
    strict: query.get('fieldValidation') === 'Strict',
  };
}

export function isDryRun(query: URLSearchParams): boolean {
  return query.get('dryRun') === 'All';
}

function nameOf(body: unknown): string {
  const { name, generateName } = mapOf(mapOf(body)['metadata']);
  if (typeof name === 'string' && name !== '') return name;
  if (typeof generateName !== 'string' || generateName === '') return '';
  return generateName + Math.random().toString(36).slice(2, 7).padEnd(5, 'x');
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw badRequest("the object provided is unrecognized (must be of type JSON): couldn't parse it");
  }
}

function yamlOf(text: string): unknown {
  if (text.trimStart().startsWith('{')) return jsonOf(text);
  try {
    return parseYaml(text);
  } catch {
    throw badRequest('error decoding YAML');
  }
}

function notAllowed(): ApiFailure {
  const message = 'the server does not allow this method on the requested resource';
  return new ApiFailure({ code: 405, reason: 'MethodNotAllowed', message });
}
