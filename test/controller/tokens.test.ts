import { describe, expect, it } from 'vitest';
import type { HostStatus, TokenWant } from '../../src/aws/tokenBroker.ts';
import type { Caches } from '../../src/controller/caches.ts';
import { Controller, type ControllerOptions } from '../../src/controller/controller.ts';
import { Store } from '../../src/kube/store.ts';
import { FakeClock, flush } from '../fakeClock.ts';
import { TestLog } from '../kube/testServer.ts';

const HOUR = 3_600_000; // ms
const RATE = 50;
const NAMESPACES = 200;
const host = (name: string): string => `123456789012.dkr.ecr.${name}.amazonaws.com`;
const mirror = (name: string): string => `mirror.${name}.example`; // of the same token
const [a, b] = ['eu-west-1', 'us-east-1'];

function cache(clock: FakeClock): object {
  const state = { everSynced: true, synced: true, staleMs: 0, error: null, listStatus: null };
  const [nothing, ended] = [() => {}, () => Promise.resolve()];
  const reflector = { state, start: nothing, stop: ended, onStateChange: nothing, onListed: nothing };
  return { store: new Store<unknown>({ clock }), reflector };
}

/** A controller on standby: its workers take what the lanes give, and have nothing to do with it. */
class World {
  readonly clock = new FakeClock();
  readonly #issued = new Map<string, number>(); // ms, by host
  readonly #keys = new Map<string, string>(); // of the broker, by host; also of hosts that nobody wants any more
  readonly #caches: Caches;
  readonly #controller: Controller;
  #wants: readonly TokenWant[] = [];
  #waiting = 0;

  constructor(...regions: string[]) {
    const { clock } = this;
    const [namespaces, resources, crds] = [cache(clock), cache(clock), cache(clock)];
    const rest = { serviceAccounts: null, secrets: new Map(), credentials: new Map() };
    this.#caches = { namespaces, resources, crds, ...rest } as Caches;
    this.#controller = new Controller({
      ...{ clock, caches: this.#caches, log: new TestLog(), serverNow: () => clock.monotonic() },
      ...{ isLeader: () => false, isGuarded: () => true, redact: (text: string) => text, env: {} },
      ...{ namespace: 'here', secretName: 'ecr-pull', credentialSecretNames: [] },
      ...{ removalDelayMs: 5_000, refreshRate: RATE },
      client: { request: () => Promise.reject(new Error('no server')) },
      broker: {
        setWants: (wants: readonly TokenWant[]) => (this.#wants = wants),
        hostStatus: (_: string, name: string) => this.#statusOf(name),
      },
      metrics: {
        queue: (lane: string, depth: number) => void (lane === 'refresh' && (this.#waiting = depth)),
        ...{ staleness: () => {}, leader: () => {}, namespaces: () => {}, forgetResource: () => {} },
      },
      events: { record: () => {} },
    } as unknown as ControllerOptions);
    this.#controller.start();
    for (let i = 0; i < NAMESPACES; i++) {
      const value = { name: `n${i}`, uid: `${i}`, labels: {}, ignored: false, terminating: false, createdAt: 0 };
      this.#caches.namespaces.store.set(`n${i}`, { value: { ...value, resourceVersion: '1' }, resourceVersion: '1' });
    }
    for (const region of regions) this.create(region);
  }

  /** A resource that wants its token. */
  create(region: string): void {
    const registries = [{ host: host(region) }, { host: mirror(region), region }];
    const spec = { registries, namespaces: {} };
    const identified = { name: region, uid: region, resourceVersion: '1', generation: 1 };
    const value = { ...identified, refreshRequestedAt: null, isDeleting: false, spec, status: undefined };
    this.#caches.resources.store.set(region, { value, resourceVersion: '1' });
  }

  /** Namespaces in the refresh lane. */
  get waiting(): number {
    this.#controller.measure();
    return this.#waiting;
  }

  async until(hour: number): Promise<void> {
    await this.clock.advance(hour * HOUR - this.clock.monotonic());
  }

  /** There is a new token for twelve hours, and its news come. Returns how many have it within a second. */
  async refresh(region: string, hosts = [host(region), mirror(region)]): Promise<number> {
    for (const name of hosts) this.#issued.set(name, this.clock.monotonic());
    return this.tell(region, hosts);
  }

  /** The controller is told to look at them. */
  async tell(region: string, hosts = [host(region), mirror(region)]): Promise<number> {
    await flush();
    const key = this.#keyOf(region);
    this.#controller.tokensChanged({ key, hosts, reason: 'token' });
    await this.clock.advance(1_000);
    return NAMESPACES - this.waiting;
  }

  /** Nobody wants it any more. */
  delete(region: string): void {
    this.#caches.resources.store.delete(region);
  }

  /** The broker does not know it any more. */
  forget(region: string): void {
    for (const name of [host(region), mirror(region)]) this.#issued.delete(name);
  }

  #keyOf(region: string): string {
    for (const { key, hosts } of this.#wants) for (const name of hosts) this.#keys.set(name, key);
    return this.#keys.get(host(region)) ?? '';
  }

  #statusOf(name: string): HostStatus {
    const issued = this.#issued.get(name);
    const rest = { lastRefreshTime: null, nextRefreshTime: null, failure: null, isUnconfirmed: false, note: null };
    if (issued === undefined) return { ...rest, token: { state: 'unknown' } };
    const [issuedAt, expiresAt] = [new Date(issued), new Date(issued + 12 * HOUR)];
    return { ...rest, token: { state: 'usable', auth: 'x', issuedAt, expiresAt } };
  }
}

describe('the pace of the refresh lane', () => {
  it.each<[string, (w: World) => void]>([
    ['is no longer refreshed', () => {}],
    ['is wanted no more', (w) => w.delete(b)],
  ])('is the configured one for days, whatever was held of a token that %s', async (_, end) => {
    const w = new World(a, b);
    await w.refresh(a);
    await w.refresh(b);
    await w.until(2);
    await w.refresh(b);
    end(w);
    for (let hour = 6; hour <= 48; hour += 6) {
      await w.until(hour);
      expect([hour, Math.abs((await w.refresh(a)) - RATE) < 10]).toEqual([hour, true]);
    }
  });

  it('is the highest where a token that namespaces hold is below a quarter of its life', async () => {
    const w = new World(a, b);
    await w.refresh(a);
    await w.until(4);
    await w.refresh(b);
    await w.until(10);
    expect(await w.refresh(b)).toBeLessThan(60);
    expect(await w.refresh(a)).toBe(NAMESPACES);
  });

  it('is that of the token which namespaces hold, not of one in between', async () => {
    const w = new World(a);
    await w.refresh(a);
    await w.until(9 - 1.5 / 3_600);
    await w.refresh(a);
    expect(await w.refresh(a)).toBe(NAMESPACES);
  });

  it('is that of each host: another one of the same token may be checked a moment later', async () => {
    const w = new World(a);
    await w.refresh(a);
    await w.until(10);
    expect(await w.refresh(a, [host(a)])).toBe(NAMESPACES);
    expect(await w.refresh(a, [mirror(a)])).toBe(NAMESPACES);
  });

  it('is none of a token that nobody wants any more', async () => {
    const w = new World(a, b);
    await w.refresh(a);
    await w.refresh(b);
    w.delete(b);
    await w.until(4);
    await w.refresh(a);
    await w.until(11);
    await w.refresh(a);
    w.forget(b);
    expect(await w.tell(b)).toBeLessThan(110);
  });

  it('holds up nobody who wants a token again that was forgotten: there is none', async () => {
    const w = new World(b);
    await w.refresh(b);
    w.delete(b);
    w.forget(b);
    await w.tell(b);
    w.create(b);
    expect(await w.refresh(b)).toBe(NAMESPACES);
  });
});
