import type { Clock } from '../clock.ts';
import type { KubeClient } from './client.ts';
import type { KubeLog } from './kubeLog.ts';
import { ApiStatusError } from './apiStatusError.ts';
import { microTime } from './microTime.ts';

export interface RecordedEvent {
  regarding: {
    apiVersion: string;
    kind: string;
    name: string;
    namespace?: string | undefined;
    uid?: string | undefined;
  };
  type: 'Normal' | 'Warning';
  reason: string; // CamelCase
  action: string; // CamelCase
  note: string; // cut at 1024 bytes
}

export interface EventRecorderOptions {
  client: Pick<KubeClient, 'request'>;
  clock: Clock;
  log: KubeLog;
  instance: string; // this process
  controller?: string; // the qualified name that `kubectl describe` shows; by default the instance
  redact?: (text: string) => string;
}

interface Series {
  name: string;
  path: string;
  count: number; // as recorded
  lastSeen: number; // wall ms
  seenAt: number; // the same, monotonic
  written: number; // the count that the API server has
  isQueued: boolean;
  isArmed: boolean; // a timer will queue it
  event: RecordedEvent;
}

const NOTE_BYTES = 1024;
const SERIES_MS = 6 * 60_000; // without a repeat for so long, the next one is a new event
const REPEAT_EVERY_MS = 30_000; // how often a series' count is written
const PER_OBJECT_AND_MINUTE = 10;
const LONGEST_QUEUE = 500;
const MOST_SERIES = 5_000; // of some 2 kB

/**
 * Writes events.k8s.io/v1. A repeat of the same event becomes a series with a count, and no object gets more than ten new
 * ones a minute. Events are told, not guaranteed: what cannot be written is dropped and forgotten. Never throws.
 */
export class EventRecorder {
  readonly #o: EventRecorderOptions;
  readonly #series = new Map<string, Series>(); // the one seen last is the last
  readonly #recent = new Map<string, number[]>(); // by object: when its new events came, monotonic ms; the latest last
  readonly #queue: Series[] = [];
  #working: Promise<void> | null = null;
  #serial = 0;

  constructor(o: EventRecorderOptions) {
    this.#o = o;
  }

  record(event: RecordedEvent): void {
    const cut = { ...event, note: cutAt(this.#o.redact?.(event.note) ?? event.note, NOTE_BYTES) };
    this.#forgetOld();
    const key = JSON.stringify(cut);
    const known = this.#series.get(key);
    if (known !== undefined) return this.#repeat(key, known);
    if (this.#isFull || this.#isTooMany(cut)) return;
    const series = this.#begin(cut);
    this.#series.set(key, series);
    this.#enqueue(series);
  }

  /** Writes what is not written yet, counts of series too. */
  async flush(): Promise<void> {
    for (const series of this.#series.values()) if (series.count > series.written) this.#enqueue(series);
    await this.#working;
  }

  #begin(event: RecordedEvent): Series {
    const now = this.#o.clock.now();
    const { name, namespace } = event.regarding;
    this.#serial += 1;
    const suffix = `${now.toString(16)}${this.#serial.toString(16).padStart(4, '0')}`;
    return {
      // A cut may leave a dash or dot at the end, which no part of a name may have.
      name: `${name.slice(0, 253 - suffix.length - 1).replace(/[^a-z0-9]+$/, '')}.${suffix}`,
      // Events of objects without a namespace are accepted in `default` alone.
      path: `/apis/events.k8s.io/v1/namespaces/${namespace ?? 'default'}/events`,
      count: 1,
      lastSeen: now,
      seenAt: this.#o.clock.monotonic(),
      written: 0,
      isQueued: false,
      isArmed: false,
      event,
    };
  }

  #repeat(key: string, series: Series): void {
    const { clock } = this.#o;
    series.count += 1;
    series.lastSeen = clock.now();
    series.seenAt = clock.monotonic();
    this.#series.delete(key);
    this.#series.set(key, series);
    // The first repeat of a pause arms one timer; those after it are only counted.
    if (series.isArmed) return;
    series.isArmed = true;
    clock.after(REPEAT_EVERY_MS, () => {
      series.isArmed = false;
      if (series.count > series.written) this.#enqueue(series);
    });
  }

  #isTooMany({ regarding }: RecordedEvent): boolean {
    const now = this.#o.clock.monotonic();
    const key = JSON.stringify([regarding.kind, regarding.namespace, regarding.name]);
    const times = (this.#recent.get(key) ?? []).filter((time) => now - time < 60_000);
    if (times.length < PER_OBJECT_AND_MINUTE) times.push(now);
    else return true;
    this.#recent.delete(key);
    this.#recent.set(key, times);
    return false;
  }

  // Both are in the order of their times: only those that go are walked over.
  #forgetOld(): void {
    const now = this.#o.clock.monotonic();
    for (const [key, { seenAt }] of this.#series) {
      if (now - seenAt <= SERIES_MS && this.#series.size < MOST_SERIES) break;
      this.#series.delete(key);
    }
    for (const [key, times] of this.#recent) {
      if (now - (times.at(-1) ?? 0) < 60_000) break;
      this.#recent.delete(key);
    }
  }

  get #isFull(): boolean {
    return this.#queue.length >= LONGEST_QUEUE;
  }

  #enqueue(series: Series): void {
    if (series.isQueued || this.#isFull) return;
    series.isQueued = true;
    this.#queue.push(series);
    this.#working ??= this.#work();
  }

  async #work(): Promise<void> {
    for (let series = this.#queue.shift(); series !== undefined; series = this.#queue.shift()) {
      series.isQueued = false;
      try {
        await this.#write(series);
      } catch (err) {
        this.#o.log.debug({ kind: series.event.regarding.kind, reason: series.event.reason, err }, 'event not written');
      }
    }
    this.#working = null;
  }

  async #write(series: Series): Promise<void> {
    const { count, written } = series;
    series.written = count; // whatever becomes of it: no second try
    if (written === 0 || !(await this.#wasPatched(series))) {
      await this.#o.client.request({ method: 'POST', path: series.path, body: this.#body(series) });
    }
  }

  /** False where the event is gone: the API server keeps events for an hour. */
  async #wasPatched({ path, name, count, lastSeen }: Series): Promise<boolean> {
    try {
      await this.#o.client.request({
        method: 'PATCH',
        patch: 'merge',
        path: `${path}/${name}`,
        body: { series: { count, lastObservedTime: microTime(lastSeen) } },
      });
      return true;
    } catch (error) {
      if (error instanceof ApiStatusError && error.status === 404) return false;
      throw error;
    }
  }

  #body({ event, name, count, lastSeen }: Series): object {
    const { regarding, type, reason, action, note } = event;
    const time = microTime(lastSeen);
    return {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name, namespace: regarding.namespace ?? 'default' },
      eventTime: time,
      reportingController: this.#o.controller ?? this.#o.instance,
      reportingInstance: this.#o.instance,
      regarding,
      type,
      reason,
      action,
      note,
      ...(count > 1 && { series: { count, lastObservedTime: time } }),
    };
  }
}

/** At most `bytes` of UTF-8, no character cut in two. */
function cutAt(text: string, bytes: number): string {
  const all = Buffer.from(text);
  if (all.length <= bytes) return text;
  let end = bytes - 3; // the ellipsis
  while (((all[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return `${all.toString('utf8', 0, end)}…`;
}
