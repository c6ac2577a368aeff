import type { KubeObject } from './kubeObject.ts';
import type { ResourceType } from './resourceTypes.ts';

/** What an Accept header asks for. */
export type Form = 'full' | 'metadata';

export function formOf(accept: string | undefined): Form {
  return /as=PartialObjectMetadata(List)?\b/.test((accept ?? '').split(',')[0] ?? '') ? 'metadata' : 'full';
}

const texts: Record<Form, WeakMap<KubeObject, string>> = { full: new WeakMap(), metadata: new WeakMap() };

/** An object's JSON; made once, as all watchers get the same. */
export function textOf(object: KubeObject, form: Form): string {
  let text = texts[form].get(object);
  if (text === undefined) {
    text = JSON.stringify(form === 'full' ? object : metadataOnly(object));
    texts[form].set(object, text);
  }
  return text;
}

function metadataOnly({ metadata }: KubeObject): object {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata };
}

/** Items of built-in lists have no kind; an empty list is `[]`, but `null` where only metadata was asked for. */
export function listText(
  objects: readonly KubeObject[],
  { type, form, metadata }: { type: ResourceType; form: Form; metadata: object },
): string {
  const head =
    form === 'metadata'
      ? { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata }
      : { kind: `${type.kind}List`, apiVersion: apiVersionOf(type), metadata };
  const items =
    objects.length === 0 && form === 'metadata'
      ? 'null'
      : `[${objects.map((object) => (form === 'full' && !type.schema ? bare(object) : textOf(object, form))).join(',')}]`;
  return `${JSON.stringify(head).slice(0, -1)},"items":${items}}`;
}

function bare({ kind: _k, apiVersion: _a, ...rest }: KubeObject): string {
  return JSON.stringify(rest);
}

export function apiVersionOf({ group, version }: Pick<ResourceType, 'group' | 'version'>): string {
  return group === '' ? version : `${group}/${version}`;
}
