import type { ServerResponse } from 'node:http';
import type { KubeObject } from './kubeObject.ts';
import type { Change } from './objectStore.ts';
import { apiVersionOf, textOf, type Form } from './representation.ts';
import type { ResourceType } from './resourceTypes.ts';
import type { Selector } from './selector.ts';

export interface WatchOptions {
  readonly type: ResourceType;
  readonly form: Form;
  readonly selector: Selector;
  readonly user: string;
  readonly bookmarkMs: number; // Infinity: none
  readonly timeoutMs: number;
  readonly version: () => number;
  /** Only what is newer is sent: a version of the future gives silence. */
  readonly after: number;
}

/** One watch: events as lines of JSON until it is ended, cut or times out. */
export class WatchStream {
  readonly options: WatchOptions;
  readonly #response: ServerResponse;
  readonly #timers: NodeJS.Timeout[] = [];
  #isSilent = false;

  constructor(response: ServerResponse, options: WatchOptions) {
    this.options = options;
    this.#response = response;
    const { bookmarkMs, timeoutMs } = options;
    if (Number.isFinite(bookmarkMs)) this.#timers.push(setInterval(() => this.bookmark(), bookmarkMs));
    if (Number.isFinite(timeoutMs)) {
      this.#timers.push(
        setTimeout(() => {
          if (Number.isFinite(bookmarkMs)) this.bookmark();
          this.end();
        }, timeoutMs),
      );
    }
    for (const timer of this.#timers) timer.unref();
    response.on('close', () => this.#stop());
  }

  /** ADDED of an object that is there already. */
  initial(object: KubeObject): void {
    if (this.options.selector.matches(object)) this.#send('ADDED', textOf(object, this.options.form));
  }

  change({ type, version, object, before }: Change): void {
    const { selector, form, after } = this.options;
    if (version <= after) return;
    const [was, is] = [before !== null && selector.matches(before), type !== 'DELETED' && selector.matches(object)];
    if (!was && !is) return;
    // An object that leaves the selection is DELETED for this watch, one that enters it ADDED.
    this.#send(was && is ? 'MODIFIED' : is ? 'ADDED' : 'DELETED', textOf(object, form));
  }

  bookmark(annotations?: Record<string, string>): void {
    const { type, form, version, after } = this.options;
    const resourceVersion = String(Math.max(version(), after));
    const kind = form === 'metadata' ? 'PartialObjectMetadata' : type.kind;
    const apiVersion = form === 'metadata' ? 'meta.k8s.io/v1' : apiVersionOf(type);
    const metadata = { resourceVersion, creationTimestamp: null, ...(annotations && { annotations }) };
    this.#send('BOOKMARK', JSON.stringify({ kind, apiVersion, metadata }));
  }

  error(status: object): void {
    this.#send('ERROR', JSON.stringify(status));
  }

  /** A clean end of the stream. */
  end(): void {
    this.#stop();
    this.#response.end();
  }

  cut(): void {
    this.#stop();
    this.#response.destroy();
  }

  /** Nothing more is sent, and the connection stays. */
  silence(): void {
    this.#isSilent = true;
  }

  raw(line: string): void {
    this.#response.write(line);
  }

  #send(type: string, object: string): void {
    if (!this.#isSilent && !this.#response.writableEnded)
      this.#response.write(`{"type":"${type}","object":${object}}\n`);
  }

  #stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}
