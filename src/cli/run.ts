import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import type { DestinationStream } from 'pino';

import { operatorName } from '../api/groupVersion.ts';
import { AuthorizationTokenSource } from '../aws/authorizationToken.ts';
import { createRegistryDispatcher } from '../aws/registryTransport.ts';
import { checkRegistry } from '../aws/registryCheck.ts';
import { TokenBroker } from '../aws/tokenBroker.ts';
import { sleep, systemClock, type Clock, type Random } from '../clock.ts';
import { createCaches } from '../controller/caches.ts';
import { Controller } from '../controller/controller.ts';
import { PolicyGuard } from '../controller/policyGuard.ts';
import { TokenStore } from '../controller/tokenStore.ts';
import { ConfigurationError, outcomeOf } from '../errors.ts';
import { KubeClient } from '../kube/client.ts';
import { connect } from '../kube/connection.ts';
import { EventRecorder } from '../kube/eventRecorder.ts';
import { LeaderElector } from '../kube/leaderElection.ts';
import { serveHealth, serveMetrics } from '../observability/health.ts';
import { createLogger } from '../observability/log.ts';
import { Metrics } from '../observability/metrics.ts';
import { Redactor } from '../observability/redactor.ts';
import type { RunOptions } from '../options.ts';
import { version } from '../version.ts';

/** What a test puts in the place of the machine's own. */
export interface Surroundings {
  readonly clock: Clock;
  readonly random: Random;
  readonly destination?: DestinationStream;
}

export interface Operator {
  readonly healthPort: number | null;
  readonly metricsPort: number | null;
  /** Ends the work, gives the lease back and closes everything. */
  stop(): Promise<void>;
}

const STOP_WITHIN_MS = 9_000;
const TELL_WITHIN_MS = 3_000;
const LOAD_AGAIN_MS = 2_000;

/** The operator as a process: runs until SIGTERM or SIGINT. */
export async function run(options: RunOptions): Promise<void> {
  const told = new Promise<null>((resolve) => {
    process.once('SIGTERM', () => resolve(null));
    process.once('SIGINT', () => resolve(null));
    // Our timers keep no process alive.
    const alive = setInterval(() => {}, 2 ** 30);
    process.once('exit', () => clearInterval(alive));
  });
  const starting = startOperator(options, { clock: systemClock, random: Math.random });
  // Until it has started it has no lease to give back.
  const operator = await Promise.race([starting, told]);
  if (operator) {
    await told;
    await Promise.race([operator.stop(), sleep(systemClock, STOP_WITHIN_MS)]);
  }
  process.exit(0);
}

/** Wires the operator, top to bottom, and starts it. */
export async function startOperator(options: RunOptions, surroundings: Surroundings): Promise<Operator> {
  const { clock, random, destination } = surroundings;
  const { env, secretName, credentialSecretNames } = options;
  const redactor = new Redactor();
  const log = createLogger({ level: options.logLevel, redactor, ...(destination && { destination }) });
  const metrics = new Metrics();
  metrics.buildInfo(version);

  const connection = connect({ kubeconfig: options.kubeconfig, env });
  const namespace = options.namespace ?? connection.namespace;
  if (namespace === null)
    throw new ConfigurationError('NoNamespace', '--namespace is missing: not in a pod, and the kubeconfig names none');
  const client = new KubeClient({ connection, clock, log, metrics });
  // A fan-out that fills every connection must not cost the lease.
  const leaseClient = new KubeClient({ connection: connection.fork(), clock, log, metrics, contact: client.contact });

  const identity = `${hostname()}_${randomUUID().slice(0, 8)}`;
  const elector: LeaderElector = new LeaderElector({
    ...{ client: leaseClient, namespace, name: operatorName, identity, clock, random, log },
    onChange: (leading) => void (leading ? lead() : follow()),
    onRewind: () => {
      controller.listAnew();
      broker.storeAnew();
    },
  });
  const isLeader = (): boolean => elector.isLeader();

  const source = new AuthorizationTokenSource({ env, clock, log, metrics, redactor });
  const registryDispatcher = createRegistryDispatcher(env);
  // The server's clock: AWS' own once it has answered, before that the API server's.
  const serverNow = (): number => clock.now() + (source.serverTimeOffsetMs() ?? client.serverTimeOffsetMs ?? 0);
  const stopping = new AbortController();
  const tokenStore = new TokenStore({ client, clock, random, log, namespace });
  const broker = new TokenBroker({
    ...{ clock, random, source, serverNow, log, metrics, isLeader },
    check: (host, auth, signal) => checkRegistry({ host, auth, signal, dispatcher: registryDispatcher }),
    onChange: (change) => controller.tokensChanged(change),
    persist: (tokens) => void tokenStore.keep(tokens, { beforeSend: () => controller.term(), signal: stopping.signal }),
  });

  const events = new EventRecorder({
    client,
    clock,
    log,
    controller: operatorName,
    instance: identity,
    redact: (text: string) => redactor.redact(text),
  });
  const guard = new PolicyGuard({
    ...{ client, clock, log, namespace, secretName },
    onChange: (inForce) => {
      metrics.policyPresent(inForce);
      controller.guardChanged();
    },
  });
  const controller = new Controller({
    ...{ client, broker, clock, serverNow, log, metrics, events, isLeader, env, namespace, secretName },
    term: () => elector.term(),
    ...{ credentialSecretNames, removalDelayMs: options.removalDelayMs, refreshRate: options.refreshRate },
    caches: createCaches({
      ...{ client, clock, random, log, namespace, credentialSecretNames },
      secretNames: [secretName, ...options.formerSecretNames],
      serviceAccounts: options.serviceAccounts,
    }),
    isGuarded: () => guard.isInForce,
    redact: (text) => redactor.redact(text),
  });

  metrics.beforeScrape(() => controller.measure());
  const health = await serveHealth({
    bindAddress: options.healthBindAddress,
    isAlive: () => true,
    whyNotReady: () => controller.whyNotReady(),
  });
  const scrape = await serveMetrics({ bindAddress: options.metricsBindAddress, metrics });

  metrics.policyPresent(guard.isInForce);
  log.info({ version, namespace, server: connection.server, identity }, 'started');
  controller.start();
  await guard.settle();
  elector.start();

  // What the last leader knew comes first: a failover costs no AWS call.
  async function lead(): Promise<void> {
    log.info({ identity }, 'the lease is ours: this replica writes');
    for (;;) {
      try {
        const tokens = await tokenStore.load();
        for (const { auth } of tokens) redactor.add(auth);
        broker.restore(tokens);
        break;
      } catch (error) {
        log.warn({ err: error }, 'the token store could not be read');
        if (outcomeOf(error).kind === 'Configuration') break; // tokens are asked for anew
        await sleep(clock, LOAD_AGAIN_MS);
        if (!isLeader()) return;
      }
    }
    if (!isLeader()) return;
    broker.start();
    controller.lead();
  }

  async function follow(): Promise<void> {
    log.info({ identity, holder: elector.holder() }, 'the lease is not ours: this replica stands by');
    controller.follow();
    await broker.stop();
  }

  return {
    healthPort: health?.port ?? null,
    metricsPort: scrape?.port ?? null,
    async stop() {
      log.info({ identity }, 'stopping');
      stopping.abort();
      guard.stop();
      await broker.stop();
      await controller.stop();
      await elector.stop();
      // Events need no lease: who leads next does not wait for them.
      await Promise.race([events.flush(), sleep(clock, TELL_WITHIN_MS)]);
      await Promise.all([
        health?.close(),
        scrape?.close(),
        client.close(),
        leaseClient.close(),
        registryDispatcher.close(),
      ]);
      log.info({ identity }, 'stopped');
    },
  };
}
