import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import type { AuditEvent } from '../cluster/auditLog.ts';
import { eventually } from '../cluster/eventually.ts';
import {
  accountPath,
  createNamespace,
  createNamespaces,
  resource,
  resourcePath,
  secretPath,
  told,
  type Condition,
  type PullSecretResource,
} from '../cluster/served.ts';
import type { Night, Replica } from './night.ts';
import { moreThan, type Counts } from './oracles/counts.ts';

/** Begins a fault; what it returns ends it. */
export type Begin = (night: Night) => Promise<() => Promise<void> | void> | (() => Promise<void> | void);

export interface EndureOptions {
  /** How long the fault lasts, ms. */
  lastsMs: number;
  /** AWS calls that it may cost. */
  calls?: number;
  /** How long what it holds back still arrives after its end, ms. */
  lingersMs?: number;
  /** While it lasts: what the operator says of it. */
  during?: () => Promise<void>;
}

/**
 * Life goes on while a fault lasts: a namespace is made, a Secret of ours is deleted, an entry of ours is dropped as a
 * foreign one comes, a foreign label appears. Some time later the state is as without the fault, at the cost of the
 * reference run, and every invariant has held.
 */
export class Endurance {
  readonly #night: Night;
  readonly #namespaces: string[] = [];
  readonly #over: { since: number; at: number; name: string }[] = [];
  #reference: Counts = new Map();
  #rounds = 0;

  private constructor(night: Night) {
    this.#night = night;
  }

  /** Two replicas that serve three namespaces; the reference run. */
  static async begin(night: Night): Promise<Endurance> {
    const endurance = new Endurance(night);
    endurance.#namespaces.push(...(await createNamespaces(night.admin, 3)));
    await night.admin.create(resource());
    await Promise.all([night.startReplica(), night.startReplica()]);
    await night.whole(endurance.#namespaces);
    const broken = await endurance.under(() => () => undefined, { lastsMs: 500 });
    if (broken.length > 0) throw new Error(`without any fault: ${broken.join('; ')}`);
    endurance.#reference = endurance.#counts();
    return endurance;
  }

  /** All that are served now. */
  get namespaces(): readonly string[] {
    return this.#namespaces;
  }

  /** A namespace that was made by a fault, and stays. */
  alsoServes(...names: readonly string[]): void {
    this.#namespaces.push(...names);
  }

  /** The name of the round that goes on: `-a` loses its Secret, `-b` its entry, `-c` comes. */
  get round(): string {
    return `round-${this.#rounds}`;
  }

  /** One more namespace that is served in every round from now on, and that life leaves alone. */
  async serve(name: string): Promise<void> {
    await this.#make(name);
    await this.#night.whole(this.#namespaces);
  }

  /** What was broken, in words. Throws where the state does not become whole within a minute. */
  async under(begin: Begin, o: EndureOptions): Promise<string[]> {
    const night = this.#night;
    const name = `round-${(this.#rounds += 1)}`;
    // Those that are damaged are of this round: what happens again and again to one is put right ever more slowly.
    await this.#make(`${name}-a`, `${name}-b`);
    await night.whole(this.#namespaces);
    const calls = night.ecr.calls.length;
    night.mark();
    const end = await begin(night);
    try {
      const begun = Date.now();
      await this.#live(name);
      await o.during?.();
      await sleep(Math.max(0, begun + o.lastsMs - Date.now()));
    } finally {
      await end(); // else what fails here fails every round after it
    }
    await sleep(o.lingersMs ?? 0);
    await night.whole(this.#namespaces);
    const made = night.ecr.calls.length - calls;
    this.#over.push({ since: night.cluster.auditMark(), at: Date.now(), name });
    return [
      ...(await night.violations()),
      ...(this.#reference.size > 0 ? moreThan(this.#reference, this.#counts()) : []),
      ...(made > (o.calls ?? 0) ? [`${made} AWS calls`] : []),
    ];
  }

  /** Invariant 4, for all of them: at the end nothing is written any more, and nothing was to the namespaces of rounds that were over. */
  async afterwards(): Promise<string[]> {
    const now = await this.quiet();
    const late = this.#over.flatMap(({ since, at, name }) =>
      // An event comes after what it tells of.
      told(this.#night.writes(since).filter((write) => !isRefusedSoon(write, at))).filter(
        (write) => write.includes(` ${name}-`) && !write.includes('/events/'),
      ),
    );
    return [...now, ...late.map((write) => `after its round was over: ${write}`)];
  }

  /** Invariant 4 alone, where a refresh that came late is no news. */
  async quiet(): Promise<string[]> {
    await this.#isTold();
    return this.#night.quiet();
  }

  /** Invariant 10: the status counts all of them and complains of nothing. It is written up to a second later. */
  async #isTold(): Promise<void> {
    const count = this.#namespaces.length;
    const trueOnes = (conditions: readonly Condition[] = []) =>
      conditions.flatMap(({ type, status }) => (status === 'True' ? [type] : [])).toSorted();
    const isTold = ({ status }: PullSecretResource) =>
      status?.namespacesReady === `${count}/${count}` &&
      trueOnes(status.conditions).join() === 'Ready,Refreshed' &&
      (status.failures ?? []).length === 0;
    await this.#night.admin.waitFor<PullSecretResource>(resourcePath(), isTold);
  }

  async #live(name: string): Promise<void> {
    const { admin } = this.#night;
    await this.#make(`${name}-c`);
    await surviving(() => admin.delete(secretPath(`${name}-a`)));
    await surviving(() => admin.patch(accountPath(`${name}-b`), { imagePullSecrets: [{ name: 'foreign' }] }));
    await surviving(() => admin.patch(accountPath('team-0'), { metadata: { labels: { round: name } } }));
  }

  async #make(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      let tries = 0;
      await surviving(async () => {
        const isAgain = (tries += 1) > 1;
        const isThere = isAgain && (await this.#night.admin.get(`/api/v1/namespaces/${name}`)) !== null;
        if (!isThere) await createNamespace(this.#night.admin, name);
      });
    }
    this.#namespaces.push(...names);
  }

  #counts(): Counts {
    const name = `round-${this.#rounds}-`;
    return new Map([...this.#night.counts()].map(([key, count]) => [key.replace(name, 'round-'), count]));
  }
}

/** A watch that catches up shows once more what was put right before it did: the API server's test refuses that in vain. */
function isRefusedSoon({ requestReceivedTimestamp, responseStatus }: AuditEvent, after: number): boolean {
  const isRefused = responseStatus?.code === 409 || responseStatus?.code === 422;
  return isRefused && Date.parse(requestReceivedTimestamp) - after < 5_000;
}

/** A write of ours, whatever becomes of the API server meanwhile: it may be what the fault kills. */
async function surviving(write: () => Promise<unknown>): Promise<void> {
  await eventually('life goes on', async () => (await write(), true), 30_000);
}

/** The same fault at every request of every replica, from now on; connections that are open are reset, so that it meets watches, too. */
export function atEveryRequest(
  fault: (request: ProxiedRequest, replica: Replica) => Fault | null,
  o: { reset?: boolean } = {},
): Begin {
  return (night) => {
    for (const replica of night.replicas) {
      replica.proxy.fault = (request) => fault(request, replica);
      if (o.reset ?? true) replica.proxy.reset();
    }
    return () => night.endFaults();
  };
}

export const isLease = ({ path }: ProxiedRequest): boolean => path.includes('/leases');
export const isReading = ({ method, path }: ProxiedRequest): boolean => method === 'GET' && !path.includes('/leases');
