import type { ServerResponse } from 'node:http';

import type { KubeObject } from '../../src/kube/kubeObject.ts';
import { answer, startServer, until, type Handler, type TestServer } from './testServer.ts';

export function namespace(name: string, resourceVersion: string, labels: Record<string, string> = {}): KubeObject {
  return { metadata: { name, resourceVersion, labels } };
}

/** A list and a watch that the test plays by hand. */
export interface FakeApi {
  server: TestServer;
  objects: KubeObject[];
  version: string;
  lists: string[]; // their queries
  watches: string[]; // their queries
  onList: Handler | null; // in place of the list
  onWatch: Handler | null; // in place of the watch
  /** The open watch, once there is one. */
  open(): Promise<ServerResponse>;
  send(type: string, object: object): void;
  sendRaw(bytes: string | Buffer): void;
  end(): void;
  reset(): void;
}

export async function startApi(objects: KubeObject[] = [], version = '10'): Promise<FakeApi> {
  let current: ServerResponse | null = null;
  const server = await startServer((request, response) => {
    const query = decodeURIComponent(request.url.split('?')[1] ?? '');
    const isWatch = query.includes('watch=true');
    (isWatch ? api.watches : api.lists).push(query);
    const instead = isWatch ? api.onWatch : api.onList;
    if (instead) return instead(request, response);
    if (!isWatch) {
      return answer(response, 200, {
        kind: 'PartialObjectMetadataList',
        metadata: { resourceVersion: api.version },
        items: api.objects,
      });
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    response.on('close', () => {
      if (current === response) current = null;
    });
    current = response;
  });
  const api: FakeApi = {
    ...{ server, objects, version, lists: [], watches: [], onList: null, onWatch: null },
    open: async () => {
      await until(() => current !== null, 'a watch');
      return current!;
    },
    send: (type, object) => api.sendRaw(`${JSON.stringify({ type, object })}\n`),
    sendRaw: (bytes) => void current!.write(bytes),
    end: () => {
      const response = current!;
      current = null;
      response.end();
    },
    reset: () => {
      const { socket } = current!;
      current = null;
      socket!.resetAndDestroy();
    },
  };
  return api;
}
