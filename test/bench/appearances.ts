import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { request } from 'undici';
import type { KubeApi, KubeObject } from '../cluster/kubeApi.ts';

/** When objects were first seen as expected, by a watch: ms of performance.now(). */
export class Appearances {
  readonly #seen = new Map<string, number>();
  readonly #waiting = new Map<string, () => void>();

  /** Watches a collection; `keysOf` names what an object shows, such as `default` or `entry`. */
  async watch(client: KubeApi, path: string, keysOf: (object: KubeObject) => string[]): Promise<void> {
    const { dispatcher, headers } = client.transport;
    const { body } = await request(`${client.server}${path}`, { dispatcher, headers, bodyTimeout: 0 });
    const lines = createInterface({ input: body });
    lines.on('line', (line) => {
      const { object } = JSON.parse(line) as { object: KubeObject };
      for (const key of keysOf(object)) this.#note(key);
    });
    body.on('error', () => {}); // the cluster is stopped under it
    lines.on('error', () => {});
    await Promise.race([once(lines, 'line'), new Promise((resolve) => setTimeout(resolve, 500))]);
  }

  async of(key: string): Promise<number> {
    const seen = this.#seen.get(key);
    if (seen !== undefined) return seen;
    await new Promise<void>((resolve) => this.#waiting.set(key, resolve));
    return this.#seen.get(key) ?? Number.NaN;
  }

  #note(key: string): void {
    if (this.#seen.has(key)) return;
    this.#seen.set(key, performance.now());
    this.#waiting.get(key)?.();
  }
}
