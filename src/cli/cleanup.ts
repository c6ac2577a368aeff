import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import { fieldManager, operatorName, tokenStoreName } from '../api/groupVersion.ts';
import { sleep, systemClock } from '../clock.ts';
import { applyWrites } from '../controller/applyWrites.ts';
import { removalCaches, reflectorsOf, type RemovalCaches } from '../controller/caches.ts';
import { diffNamespace, type ObservedNamespace } from '../core/diffNamespace.ts';
import { EMPTY_PLAN } from '../core/planNamespace.ts';
import { ConfigurationError, GoneError, outcomeOf, TransientError } from '../errors.ts';
import { ApiStatusError } from '../kube/apiStatusError.ts';
import { KubeClient } from '../kube/client.ts';
import { connect } from '../kube/connection.ts';
import type { BeforeSend } from '../kube/exchange.ts';
import { LeaderElector } from '../kube/leaderElection.ts';
import { createLogger, type Logger } from '../observability/log.ts';
import { Redactor } from '../observability/redactor.ts';
import type { CleanupOptions } from '../options.ts';

const LOOK_AGAIN_MS = 200;
const AT_ONCE = 16; // namespaces

interface Cleanup {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly namespace: string; // the operator's own
  readonly options: CleanupOptions;
  readonly deadline: number; // ms, monotonic
}

/**
 * Takes everything of ours out of the cluster and leaves the custom resources. The operator is scaled to 0 first, and
 * its Lease is held meanwhile: a standing operator would write it all back.
 */
export async function cleanup(options: CleanupOptions): Promise<void> {
  const log = createLogger({ level: options.logLevel, redactor: new Redactor() });
  const connection = connect({ kubeconfig: options.kubeconfig, env: options.env });
  const namespace = options.namespace ?? connection.namespace;
  if (namespace === null)
    throw new ConfigurationError('NoNamespace', '--namespace is missing: not in a pod, and the kubeconfig names none');
  const client = new KubeClient({ connection, clock: systemClock, log, metrics: { kubeRequest: () => {} } });
  const deadline = systemClock.monotonic() + options.timeoutMs;
  const run: Cleanup = { client, log, namespace, options, deadline };
  // Our own timers keep no process alive.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    await scaleToZero(run);
    const elector = await takeLease(run);
    try {
      const removed = await removeEverything(run, () => elector.term());
      await deleteTokenStore(run);
      log.info(removed, 'everything of ours is gone; the custom resources stay');
    } finally {
      await elector.stop();
    }
  } catch (error) {
    // No bad input: that is a ConfigurationError of its own, and exit code 2.
    throw error instanceof ApiStatusError ? new TransientError(error.code, error.message) : error;
  } finally {
    clearInterval(alive);
    await client.close();
  }
}

// An operator that runs elsewhere than as the shipped Deployment is not ours to stop: its Lease tells of it.
async function scaleToZero({ client, namespace, log }: Cleanup): Promise<void> {
  try {
    await client.request({
      method: 'PATCH',
      patch: 'merge',
      path: `/apis/apps/v1/namespaces/${namespace}/deployments/${operatorName}/scale`,
      body: { spec: { replicas: 0 } },
    });
    log.info({ kind: 'Deployment', namespace, name: operatorName }, 'scaled to 0');
  } catch (error) {
    if (!(error instanceof ApiStatusError) || error.status !== 404) throw error;
    log.info({ kind: 'Deployment', namespace, name: operatorName }, 'not there: nothing to scale');
  }
}

async function takeLease({ client, namespace, log, deadline }: Cleanup): Promise<LeaderElector> {
  const identity = `${hostname()}_cleanup_${randomUUID().slice(0, 8)}`;
  const elector = new LeaderElector({
    ...{ client, namespace, name: operatorName, identity, clock: systemClock, random: Math.random, log },
    onChange: () => {},
  });
  elector.start();
  while (!elector.isLeader()) {
    if (systemClock.monotonic() > deadline) {
      const holder = elector.holder();
      await elector.stop();
      throw new TransientError(
        'LeaseHeld',
        `the Lease ${namespace}/${operatorName} is held by a live operator (${holder ?? 'unknown'}): stop it first; nothing was removed`,
      );
    }
    await sleep(systemClock, LOOK_AGAIN_MS);
  }
  return elector;
}

async function removeEverything(run: Cleanup, beforeSend: BeforeSend): Promise<{ namespaces: number; writes: number }> {
  const caches = removalCaches({
    ...{ client: run.client, clock: systemClock, random: Math.random, log: run.log },
    secretNames: [run.options.secretName, ...run.options.formerSecretNames],
    serviceAccounts: run.options.serviceAccounts,
  });
  for (const reflector of reflectorsOf(caches)) reflector.start();
  try {
    await synced(caches, run);
    const touched = new Set<string>();
    let writes = 0;
    // A conflict, or an entry that somebody puts back meanwhile, is seen in the next round.
    for (;;) {
      const round = await removeOnce(caches, run, beforeSend);
      for (const name of round.namespaces) touched.add(name);
      writes += round.writes;
      if (round.namespaces.length === 0) return { namespaces: touched.size, writes };
      if (systemClock.monotonic() > run.deadline) throw incomplete(round);
      await sleep(systemClock, LOOK_AGAIN_MS);
    }
  } finally {
    await Promise.all(reflectorsOf(caches).map((reflector) => reflector.stop()));
  }
}

async function synced(caches: RemovalCaches, { deadline }: Cleanup): Promise<void> {
  for (;;) {
    const waiting = reflectorsOf(caches).find(({ state }) => !state.synced);
    if (!waiting) return;
    if (systemClock.monotonic() > deadline) {
      const reason = waiting.state.error?.message ?? 'no answer';
      throw new TransientError('NotSynced', `${waiting.kind}s could not be listed: ${reason}; nothing was removed`);
    }
    await sleep(systemClock, LOOK_AGAIN_MS);
  }
}

interface Round {
  readonly namespaces: string[]; // that had something of ours
  readonly errors: string[];
  writes: number;
}

async function removeOnce(caches: RemovalCaches, run: Cleanup, beforeSend: BeforeSend): Promise<Round> {
  const { secretName } = run.options;
  const round: Round = { namespaces: [], errors: [], writes: 0 };
  const waiting = [...caches.namespaces.store.values()].filter(({ terminating }) => !terminating);
  const remove = async (name: string): Promise<void> => {
    const diff = diffNamespace(EMPTY_PLAN, observe(name, caches, secretName), { secretName, mayRemove: true });
    if (diff.writes.length === 0) return;
    round.namespaces.push(name);
    const result = await applyWrites(diff.writes, {
      ...{ client: run.client, namespace: name, secretName, beforeSend },
      seen: async () => {},
      seenGone: async () => {},
      recreated: () => {},
    });
    round.writes += result.written;
    for (const error of result.errors) {
      if (!(error instanceof GoneError)) round.errors.push(messageOf(error));
    }
  };
  const work = async (): Promise<void> => {
    for (let next = waiting.pop(); next; next = waiting.pop()) await remove(next.name);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return round;
}

function observe(name: string, caches: RemovalCaches, secretName: string): ObservedNamespace {
  const secretIn = (secret: string) => caches.secrets.get(secret)?.store.get(`${name}/${secret}`);
  const formerNames = [...caches.secrets.keys()].filter((secret) => secret !== secretName);
  return {
    secret: secretIn(secretName) ?? null,
    formerSecrets: formerNames.flatMap((secret) => secretIn(secret) ?? []),
    serviceAccounts: caches.serviceAccounts?.store.inNamespace(name) ?? null,
  };
}

async function deleteTokenStore({ client, namespace }: Cleanup): Promise<void> {
  try {
    await client.request({ method: 'DELETE', path: `/api/v1/namespaces/${namespace}/secrets/${tokenStoreName}` });
  } catch (error) {
    if (!(error instanceof ApiStatusError) || error.status !== 404) throw error;
  }
}

const NAMES_TOLD = 3;

function incomplete({ namespaces, errors }: Round): TransientError {
  const names = namespaces.toSorted().slice(0, NAMES_TOLD).join(', ');
  const more = namespaces.length > NAMES_TOLD ? ` and ${namespaces.length - NAMES_TOLD} more` : '';
  const example = errors[0] === undefined ? '' : `: ${errors[0]}`;
  return new TransientError('Incomplete', `something of ${fieldManager} is left in ${names}${more}${example}`);
}

function messageOf(error: unknown): string {
  const outcome = outcomeOf(error);
  return 'message' in outcome ? outcome.message : outcome.kind;
}
