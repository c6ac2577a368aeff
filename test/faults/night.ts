import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { defaultSecretName, resourcesPath } from '../../src/api/groupVersion.ts';
import { ageCrd } from '../cluster/ageCrd.ts';
import { ApiServerProxy } from '../cluster/apiServerProxy.ts';
import { defaultAuditPolicy, writeVerbs, type AuditEvent } from '../cluster/auditLog.ts';
import { startCluster, type Cluster, type ClusterOptions } from '../cluster/cluster.ts';
import { kubeconfig } from '../cluster/controlPlane.ts';
import { ecrHost } from '../cluster/door.ts';
import { eventually } from '../cluster/eventually.ts';
import type { KubeApi } from '../cluster/kubeApi.ts';
import {
  installDeploy,
  leaderOf,
  operatorNamespace,
  operatorUser,
  startOperator,
  type Operator,
  type OperatorOptions,
} from '../cluster/operator.ts';
import { scaled } from '../cluster/scaled.ts';
import { entriesOf, footprint, told } from '../cluster/served.ts';
import { StandInEcr } from '../cluster/standInEcr.ts';
import { stepsOf } from './oracles/authorship.ts';
import { badEndings } from './oracles/endings.ts';
import { countsOf, type Counts } from './oracles/counts.ts';
import { foreignChanges, strangeWrites } from './oracles/foreign.ts';
import { History } from './oracles/history.ts';
import { needsLease, writesWithoutLease, type LeaseAnswer } from './oracles/leadership.ts';
import { delayed, greedy, hasty, overdue } from './oracles/manners.ts';
import { badTokens, doubled, madeAnew, whyUnlike } from './oracles/ours.ts';
import { leaks } from './oracles/secrecy.ts';
import { readVitals, vitalsEnv } from './readVitals.ts';
import type { Vitals } from './vitals.ts';

export interface Replica {
  readonly operator: Operator;
  readonly proxy: ApiServerProxy;
  /** What it gives up is not seen by the proxy. */
  readonly isBehindNetwork: boolean;
  /** When its process began, ms. */
  readonly begunAt: number;
  /** What it tells of itself, second by second. */
  readonly vitals: () => Vitals[];
}

export interface NightOptions extends ClusterOptions {
  lifeMs?: number; // of ECR's tokens
  /** Flags of the operator. */
  args?: readonly string[];
  env?: Record<string, string>;
  /** Where the operator finds its token; by default it has one in its kubeconfig that lasts a day. */
  tokenFile?: string;
}

export const leasePath = '/apis/coordination.k8s.io/v1/namespaces/ecr-pull-secrets/leases/ecr-pull-secrets';

/** How one replica is started, where it is another way than the options of the night say. */
export interface ReplicaOptions extends Partial<Pick<OperatorOptions, 'main' | 'within' | 'env' | 'tlsServerName'>> {
  waitUntilReady?: boolean;
  prepare?: (proxy: ApiServerProxy) => void;
  /** Where it finds the proxy. */
  serverOf?: (proxy: ApiServerProxy) => Promise<string> | string;
}

const mostMemory = 512 * 2 ** 20; // bytes: the limit of the Deployment
export const wholeWithinMs = 60_000;
export const quietMs = scaled(120_000, 10_000);

/** In the audit log: what the operator did with bodies, so that each version of an object has its author. */
const auditPolicy = JSON.stringify({
  ...(JSON.parse(defaultAuditPolicy) as object),
  rules: [
    { level: 'RequestResponse', users: [operatorUser], verbs: [...writeVerbs] },
    ...(JSON.parse(defaultAuditPolicy) as { rules: object[] }).rules,
  ],
});

/**
 * A control plane, an ECR, and replicas of the operator, each behind a proxy of its own that does what a bad night does.
 * Everything that happens is written down; at the end of each fault the invariants are held against it.
 */
export class Night {
  readonly cluster: Cluster;
  readonly admin: KubeApi;
  readonly ecr: StandInEcr;
  readonly history: History;
  /** How replicas are started where nothing else is said. */
  usual: () => ReplicaOptions = () => ({});
  readonly #options: NightOptions;
  readonly #replicas: Replica[] = [];
  #mark = { audit: 0, history: 0, time: 0 };
  #timeline = { audit: 0, time: 0 }; // where what the history tells of begins

  private constructor(o: { cluster: Cluster; ecr: StandInEcr; history: History; options: NightOptions }) {
    this.cluster = o.cluster;
    this.admin = o.cluster.admin;
    this.ecr = o.ecr;
    this.history = o.history;
    this.#options = o.options;
  }

  static async begin(options: NightOptions = {}): Promise<Night> {
    const cluster = await startCluster({ auditPolicy, ...options });
    const ecr = await StandInEcr.start(options.lifeMs === undefined ? {} : { lifeMs: options.lifeMs });
    await installDeploy(cluster);
    await ageCrd(cluster); // else nothing would be removed after a restart
    return new Night({ cluster, ecr, history: await History.begin(cluster.admin), options });
  }

  async end(): Promise<void> {
    await this.history.end();
    await Promise.all(this.#replicas.map(({ proxy }) => proxy.close()));
    await this.cluster.stop();
    await this.ecr.close();
  }

  /** Of all that were ever started, those that run. */
  get replicas(): Replica[] {
    return this.#replicas.filter(({ operator }) => operator.process.isRunning());
  }

  async startReplica(o: ReplicaOptions = this.usual()): Promise<Replica> {
    const { prepare, serverOf, env, waitUntilReady = true, ...rest } = o;
    const proxy = await ApiServerProxy.start(this.cluster);
    prepare?.(proxy);
    const vitals = join(mkdtempSync(join(this.cluster.dir, 'vitals-')), 'vitals.jsonl');
    const operator = await startOperator({
      ...{ cluster: this.cluster, env: vitalsEnv(vitals, { ...this.ecr.env, ...this.#options.env, ...env }), ...rest },
      server: (await serverOf?.(proxy)) ?? proxy.url,
      args: ['--log-level=debug', ...(this.#options.args ?? [])],
      ...(this.#options.tokenFile !== undefined && { kubeconfig: this.#kubeconfig(proxy, this.#options.tokenFile) }),
      waitUntilReady: false,
    });
    const begunAt = Date.now();
    const isBehindNetwork = o.within !== undefined;
    const replica = { operator, proxy, isBehindNetwork, begunAt, vitals: () => readVitals(vitals) };
    this.#replicas.push(replica);
    if (waitUntilReady) await operator.waitUntilReady();
    return replica;
  }

  /** The one that leads, once one does. */
  async leader(timeoutMs = 30_000): Promise<Replica> {
    const operators = this.replicas.map((replica) => replica.operator);
    const operator = await leaderOf(operators, timeoutMs);
    const found = this.replicas.find((replica) => replica.operator === operator);
    if (found === undefined) throw new Error('nobody leads');
    return found;
  }

  /** Nothing meets the requests of those that run any more. */
  endFaults(): void {
    for (const { proxy } of this.replicas) proxy.fault = () => null;
  }

  /** Two of them run again, and one leads. */
  async restaff(): Promise<void> {
    while (this.replicas.length < 2) await this.startReplica();
    await this.leader();
  }

  #kubeconfig({ url: server }: ApiServerProxy, tokenFile: string): string {
    const { ca, dir } = this.cluster;
    const text = kubeconfig({ ...{ server, ca, token: '' }, user: 'operator', namespace: operatorNamespace });
    const config = JSON.parse(text) as { users: { user: object }[] };
    for (const entry of config.users) entry.user = { tokenFile };
    const file = join(mkdtempSync(join(dir, 'kubeconfig-')), 'operator.json');
    writeFileSync(file, JSON.stringify(config));
    return file;
  }

  /** Ends every replica and forgets who led: the next one need not wait for the lease of a dead one. */
  async killAll(): Promise<void> {
    await Promise.all(this.replicas.map(({ operator }) => operator.kill()));
    await this.admin.delete(leasePath);
  }

  /** What comes later is judged by `invariants`. */
  mark(): void {
    this.#mark = { audit: this.cluster.auditMark(), history: this.history.mark(), time: Date.now() };
  }

  /** When it was marked last, ms. */
  get markedAt(): number {
    return this.#mark.time;
  }

  /** Etcd has gone back: nothing that was before is judged any more. To be called before anybody writes. */
  async goneBack(): Promise<void> {
    await this.history.beginAnew();
    this.#timeline = { audit: this.cluster.auditMark(), time: Date.now() };
    this.mark();
  }

  /** What the operator wrote since the mark; its Lease, dry runs and the counts of events that come again left out. */
  writes(since = this.#mark.audit): AuditEvent[] {
    return this.#tried(since)
      .filter(({ objectRef, requestURI }) => objectRef?.resource !== 'leases' && !requestURI.includes('dryRun=All'))
      .filter(({ objectRef }) => !objectRef?.resource.endsWith('reviews'))
      .filter(({ objectRef, verb }) => objectRef?.resource !== 'events' || verb !== 'patch');
  }

  #tried(since: number): AuditEvent[] {
    return this.cluster.auditEvents({ user: operatorUser, verb: writeVerbs, since });
  }

  counts(): Counts {
    return countsOf(this.writes());
  }

  /** Until every one of these namespaces holds the newest token and its entry, and none of the others anything. */
  async whole(namespaces: readonly string[], timeoutMs = wholeWithinMs): Promise<void> {
    await eventually('the state is as without the fault', () => this.#isWhole(namespaces), timeoutMs);
  }

  async #isWhole(namespaces: readonly string[]): Promise<true> {
    const found = await footprint(this.admin);
    const newest = this.ecr.issued.toSorted((a, b) => b.issuedAt - a.issuedAt)[0]?.auth;
    const wrong = namespaces.flatMap((name) => {
      const secret = found.get(name);
      const why = secret === undefined ? 'no Secret' : whyUnlike(secret, { host: ecrHost, auth: newest });
      const hasEntry = entriesOf(found.get(`${name}/default`) ?? null).length > 0;
      return why === null && hasEntry ? [] : [`${name} (${why ?? 'no entry'})`];
    });
    if (wrong.length > 0) throw new Error(`not served: ${wrong.join(', ')}`);
    const wanted = new Set(namespaces.flatMap((name) => [name, `${name}/default`]));
    const left = [...found.keys()].filter((key) => !wanted.has(key));
    if (left.length > 0) throw new Error(`left there: ${left.join(', ')}`);
    return true;
  }

  /** Invariant 4, second half: nothing is written any more. What was. */
  async quiet(): Promise<string[]> {
    await sleep(2_000); // the last status comes up to a second later, and the events that tell of it
    const since = this.cluster.auditMark();
    await sleep(quietMs);
    return told(this.writes(since)).map((write) => `in the quiet afterwards: ${write}`);
  }

  /** Invariants 1, 2, 3, 6, 7, 9, 11 and 12 of docs/reliability.md, over everything since the mark; what is broken, in words. */
  async violations(): Promise<string[]> {
    const versions = this.history.versions();
    const steps = stepsOf(versions, this.writes(this.#timeline.audit)).slice(this.#mark.history);
    const recent = versions.slice(this.#mark.history);
    return [
      ...foreignChanges(steps, defaultSecretName),
      ...strangeWrites(this.#tried(this.#mark.audit), { secretName: defaultSecretName, namespace: operatorNamespace }),
      ...doubled(recent, defaultSecretName),
      ...madeAnew(steps, defaultSecretName),
      ...badTokens(steps, {
        tokenOf: (auth) => this.#tokenOf(auth),
        isWanted: (host) => host === ecrHost, // by every Secret that stays
        secretName: defaultSecretName,
      }),
      ...writesWithoutLease(this.#seenWrites(), versions, this.#leaseAnswers()),
      ...leaks(await this.#outputs(), this.#secrets()),
      ...(await this.#crashes()),
      ...this.#replicas.flatMap((replica) => this.#mannersOf(replica)),
    ];
  }

  #mannersOf({ operator, proxy, isBehindNetwork, begunAt, vitals }: Replica): string[] {
    const { stills, process } = operator;
    const since = this.#mark.time;
    const requests = proxy.requests.filter(({ time }) => time >= since);
    const ofProcess = [
      ...delayed(vitals(), { begunAt, stills }),
      ...greedy(vitals(), { begunAt, since, mostBytes: mostMemory }),
    ];
    return [
      ...(isBehindNetwork ? [] : overdue(requests, { now: Date.now(), stills })),
      ...hasty(requests),
      ...ofProcess.map((text) => `${process.name}: ${text}`),
    ];
  }

  #tokenOf(auth: string): { host: string; issuedAt: number; expiresAt: number } | null {
    const token = this.ecr.issued.find((issued) => issued.auth === auth);
    return token === undefined ? null : { host: ecrHost, ...token };
  }

  #seenWrites(): { holder: string; path: string; time: number }[] {
    return this.#replicas.flatMap(({ proxy }) =>
      proxy.requests
        .filter((request) => request.time >= this.#timeline.time && needsLease(request))
        .map(({ path, time }) => ({ holder: proxy.holder ?? 'a replica that never asked for the lease', path, time })),
    );
  }

  /** Those that tell who has it, and are sure to have come. */
  #leaseAnswers(): LeaseAnswer[] {
    const near = this.#replicas.filter(({ isBehindNetwork }) => !isBehindNetwork);
    return near.flatMap(({ proxy: { requests, holder } }) =>
      requests.flatMap(({ method, path, time, endedAt, status }) => {
        const tells = method === 'GET' && path === leasePath && status === 200;
        if (!tells || endedAt === null || holder === null) return [];
        return [{ holder, askedAt: time, answeredAt: endedAt }];
      }),
    );
  }

  async #outputs(): Promise<Map<string, string>> {
    // An API server that has just come back may still be making its storage.
    const listed = (path: string) => eventually(`${path} is listed`, () => this.admin.list(path), 30_000);
    const events = await listed('/apis/events.k8s.io/v1/events');
    const resources = await listed(resourcesPath);
    const metrics = await Promise.all(this.replicas.map(({ operator }) => operator.metrics().catch(() => '')));
    const audited = this.cluster.auditEvents().map(withoutSecret);
    return new Map([
      ...this.#replicas.map(({ operator }) => [operator.process.name, operator.output()] as const),
      ['events', JSON.stringify(events)],
      ['the resources', JSON.stringify(resources)],
      ['metrics', metrics.join('\n')],
      ['the audit log', audited.map((event) => JSON.stringify(event)).join('\n')],
    ]);
  }

  // What a Secret holds is base64 twice, so that `auth` is looked for as well as the password in it.
  #secrets(): string[] {
    const tokens = this.ecr.issued.flatMap(({ auth }) => [
      auth,
      Buffer.from(auth, 'base64').toString('utf8').slice('AWS:'.length),
    ]);
    const keys = [this.ecr.env['AWS_SECRET_ACCESS_KEY'] ?? '', ...this.ecr.sessionSecrets];
    return [...tokens, ...keys, ...this.#signatures()];
  }

  /** Of the tokens that replicas show to the API server: the rest of a JWT is no secret. */
  #signatures(): string[] {
    const { dir } = this.cluster;
    const folders = readdirSync(dir).filter((name) => name.startsWith('kubeconfig-'));
    const files = folders.flatMap((folder) => readdirSync(join(dir, folder)).map((file) => join(dir, folder, file)));
    const { tokenFile } = this.#options;
    const texts = [...files, ...(tokenFile === undefined ? [] : [tokenFile])].map((file) => readFileSync(file, 'utf8'));
    return texts.flatMap((text) =>
      [...text.matchAll(/\beyJ[\w-]+\.[\w-]+\.([\w-]+)/g)].map(([, signature = '']) => signature),
    );
  }

  async #crashes(): Promise<string[]> {
    const told = this.#replicas.map(async ({ operator }) => {
      const { name, exited, isRunning } = operator.process;
      return badEndings({ name, output: operator.output(), end: isRunning() ? null : await exited });
    });
    return (await Promise.all(told)).flat();
  }
}

/** Of an audit line on a Secret all but the Secret itself, which may hold one. */
function withoutSecret(event: AuditEvent): object {
  const { requestObject: _q, responseObject: _s, ...rest } = event as AuditEvent & { requestObject?: unknown };
  return event.objectRef?.resource === 'secrets' ? rest : event;
}
