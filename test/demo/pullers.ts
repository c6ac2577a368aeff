import { setTimeout as sleep } from 'node:timers/promises';
import type { Sandbox } from '../sandbox/sandbox.ts';

export interface Refusal {
  readonly namespace: string;
  readonly message: string;
}

/** New pods all the time, one namespace after the other, as on a cluster that is in use. */
export class Pullers {
  readonly refusals: Refusal[] = [];
  count = 0;
  readonly #sandbox: Sandbox;
  readonly #image: string;
  readonly #namespaces: readonly string[];
  readonly #stop = new AbortController();
  #running: Promise<void> | null = null;

  constructor(sandbox: Sandbox, o: { image: string; namespaces: readonly string[] }) {
    this.#sandbox = sandbox;
    this.#image = o.image;
    this.#namespaces = o.namespaces;
  }

  start(everyMs: number): void {
    this.#running ??= this.#run(everyMs);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(everyMs: number): Promise<void> {
    for (let i = 0; !this.#stop.signal.aborted; i++) {
      const namespace = this.#namespaces[i % this.#namespaces.length] ?? '';
      const pod = await this.#sandbox.createPod({ namespace, image: this.#image });
      const pulled = await pod.attempt();
      this.count += 1;
      if (!pulled.ok) this.refusals.push({ namespace, message: pulled.message });
      await sleep(everyMs);
    }
  }
}
