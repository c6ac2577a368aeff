import { parseResourcePath } from '../../src/kube/resourcePath.ts';
import type { Fault, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { KubeApi } from '../cluster/kubeApi.ts';
import { TcpRelay } from '../cluster/tcpRelay.ts';
import { isReading } from './endure.ts';

/**
 * A second API server whose link to etcd can be made to stand still. Then its watches are open and show nothing, its
 * lists at `resourceVersion=0` are old, and what needs etcd itself (a list or a get that asks for no version) waits.
 */
export class StaleServer {
  readonly url: string;
  /** The admin there. */
  readonly admin: KubeApi;
  readonly #link: TcpRelay;

  private constructor(o: { url: string; admin: KubeApi; link: TcpRelay }) {
    this.url = o.url;
    this.admin = o.admin;
    this.#link = o.link;
  }

  static async start(cluster: Cluster): Promise<StaleServer> {
    const etcd = new URL(cluster.etcd);
    const link = await TcpRelay.start({ host: etcd.hostname, port: Number(etcd.port) });
    const { server } = await cluster.startApiServerBeside(`http://${link.host}:${link.port}`);
    return new StaleServer({ url: server, admin: cluster.admin.at(server), link });
  }

  /** What happens from now on it does not see. Etcd's client gives the link up after half a minute. */
  pause(): void {
    this.#link.pause();
  }

  resume(): void {
    this.#link.resume();
  }

  async close(): Promise<void> {
    await this.admin.close();
    await this.#link.close();
  }

  /** Everything that is read is read here; leases are read from the other server, as they are written there. */
  reads = (request: ProxiedRequest): Fault | null => (isReading(request) ? { server: this.url } : null);

  /** Watches and lists alone. */
  views = (request: ProxiedRequest): Fault | null => (isOfCollection(request) ? { server: this.url } : null);

  /** The same, and the lists are old, too: worse than any API server answers where no version is asked for. */
  oldViews = (request: ProxiedRequest): Fault | null => {
    if (!isOfCollection(request)) return null;
    return { server: this.url, ...(!request.isWatch && { path: `${request.path}&resourceVersion=0` }) };
  };
}

function isOfCollection(request: ProxiedRequest): boolean {
  const [path = ''] = request.path.split('?');
  const { resource, name } = parseResourcePath(path);
  return isReading(request) && resource !== null && name === undefined;
}
