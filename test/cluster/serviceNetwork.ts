import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';

const run = promisify(execFile);

/**
 * What kube-proxy would do, for the one Service that pods need: its address leads to the API server on loopback. The
 * address is put on the cluster's own bridge. Start the cluster with `serviceRangeFlag(range)`, and `prepare` before
 * the first pod.
 */
export class ServiceNetwork {
  readonly address: string;
  readonly #cluster: Cluster;
  readonly #servers: Server[] = [];

  private constructor(cluster: Cluster, address: string) {
    this.#cluster = cluster;
    this.address = address;
  }

  /** Pods get a default route from now on; the bridge comes with the first of them, so they are not waited for here. */
  static prepare(cluster: Cluster, range: number): ServiceNetwork {
    const file = join(cluster.dir, 'cni', '10-pods.conflist');
    const config = JSON.parse(readFileSync(file, 'utf8')) as { plugins: { ipam: object }[] };
    const plugins = config.plugins.map((plugin) => ({
      ...plugin,
      ipam: { ...plugin.ipam, routes: [{ dst: '0.0.0.0/0' }] },
    }));
    writeFileSync(file, JSON.stringify({ ...config, plugins }));
    return new ServiceNetwork(cluster, `10.96.${range}.1`);
  }

  /** Once a pod is there: opens the address of the Service `kubernetes`. */
  async open(): Promise<void> {
    const bridge = `ecr-${basename(this.#cluster.dir).slice(-6)}`;
    // Not before it has its own: a bridge with another one alone is refused to every pod.
    const isUp = async () => (await run('ip', ['-4', '-oneline', 'address', 'show', bridge])).stdout !== '';
    await eventually('the bridge has its address', isUp, 60_000);
    await run('ip', ['address', 'replace', `${this.address}/32`, 'dev', bridge]);
    await this.forward(new URL(this.#cluster.server).port, 443);
  }

  /** A port of this address, for pods, that leads to one of loopback; 0 takes any. */
  async forward(to: number | string, port = 0): Promise<string> {
    const server = createServer((inside) => {
      const outside = connect(Number(to), '127.0.0.1');
      inside.once('error', () => outside.destroy());
      outside.once('error', () => inside.destroy());
      inside.pipe(outside).pipe(inside);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, this.address, resolve);
    });
    server.unref();
    this.#servers.push(server);
    const bound = server.address();
    return `http://${this.address}:${typeof bound === 'object' ? bound?.port : port}`;
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }
}

export function serviceRangeFlag(range: number): string {
  return `--service-cluster-ip-range=10.96.${range}.0/24`;
}
