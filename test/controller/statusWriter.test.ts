import { expect, it } from 'vitest';
import { apiVersion, kind, resourcesPath } from '../../src/api/groupVersion.ts';
import { systemClock } from '../../src/clock.ts';
import { reduceResource, type ResourceObject } from '../../src/controller/observedObjects.ts';
import { StatusWriter } from '../../src/controller/statusWriter.ts';
import type { ResourceFacts } from '../../src/core/status.ts';
import { KubeClient } from '../../src/kube/client.ts';
import { connect } from '../../src/kube/connection.ts';
import { Store } from '../../src/kube/store.ts';
import { createLogger } from '../../src/observability/log.ts';
import { Redactor } from '../../src/observability/redactor.ts';
import { ConflictError, ThrottledError } from '../../src/errors.ts';
import { eventually } from '../cluster/eventually.ts';
import { FakeClock } from '../fakeClock.ts';
import { startSandbox } from '../sandbox/sandbox.ts';

const path = `${resourcesPath}/production`;
const manifest = {
  ...{ apiVersion, kind, metadata: { name: 'production' } },
  spec: { registries: [{ host: '123456789012.dkr.ecr.us-east-1.amazonaws.com' }], namespaces: {} },
};
const initialFacts: ResourceFacts = {
  ...{ generation: 1, isSuspended: false, specProblem: null, missingPermissions: [], isGuarded: true, registries: [] },
  namespaces: { matched: 0, ready: 0, young: 0, blocked: [], failed: [] },
};

/** A writer whose view of the resource changes only when it is told to. */
async function startWriter() {
  let facts = initialFacts;
  const sandbox = await startSandbox();
  const connection = connect({ kubeconfig: sandbox.kubeconfigPath, env: {} });
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const log = createLogger({ level: 'debug', redactor: new Redactor(), destination });
  const client = new KubeClient({ connection, clock: systemClock, log, metrics: { kubeRequest: () => {} } });
  const resources = new Store<ResourceObject>({ clock: systemClock });
  const writer = new StatusWriter({
    ...{ client, resources, clock: systemClock, log, serverNow: () => Date.now(), factsOf: () => facts },
    ...{ events: { record: () => {} }, beforeSend: () => {}, redact: (text: string) => text },
  });
  const { admin, audit } = sandbox.api;
  return {
    admin,
    writer,
    lines,
    tries: () => audit.of({ user: sandbox.operatorUser, subresource: 'status' }).map(({ code }) => code),
    change: (isGuarded: boolean) => {
      facts = { ...facts, isGuarded };
      writer.schedule('production');
    },
    see: () => {
      const value = reduceResource(admin.get(path) as Parameters<typeof reduceResource>[0]);
      resources.set('production', { value, resourceVersion: value.resourceVersion });
    },
    async [Symbol.asyncDispose]() {
      writer.stop();
      await client.close();
      await sandbox.close();
    },
  };
}

/** A writer whose every write is refused, and when it sent them; something changes while each is under way. */
function refusing(clock: FakeClock, error: () => Error): { writer: StatusWriter; sent: number[] } {
  const sent: number[] = [];
  const request = async (): Promise<never> => {
    sent.push(clock.monotonic());
    writer.schedule('production');
    await Promise.resolve();
    throw error();
  };
  const resources = new Store<ResourceObject>({ clock });
  const value = reduceResource({ ...manifest, metadata: { name: 'production', uid: 'u', resourceVersion: '1' } });
  resources.set('production', { value, resourceVersion: '1' });
  const log = createLogger({ level: 'error', redactor: new Redactor() });
  const writer = new StatusWriter({
    ...{ client: { request }, resources, clock, log, serverNow: () => clock.now(), factsOf: () => initialFacts },
    ...{ events: { record: () => {} }, beforeSend: () => {}, redact: (text: string) => text },
  });
  return { writer, sent };
}

it('a resource that was deleted and made again never gets the status of the former', async () => {
  await using w = await startWriter();
  w.admin.create(manifest);
  w.see();
  w.admin.delete(path);
  w.admin.create(manifest);
  w.writer.schedule('production');
  await eventually('it has tried', () => w.tries().length > 0);
  expect(w.admin.get(path)['status']).toBeUndefined();
  w.see();
  await eventually('what is there now has its own', () => w.admin.get(path)['status'] !== undefined, 3_000);
  expect(w.lines.filter((line) => line.includes('"warn"'))).toEqual([]);
});

it('a status that somebody else has written meanwhile is not written over from a stale view', async () => {
  await using w = await startWriter();
  w.admin.create(manifest);
  w.see();
  w.admin.merge(`${path}/status`, { status: { registryCount: 7 } });
  w.writer.schedule('production');
  await eventually('it has tried', () => w.tries().length > 0);
  expect(w.admin.get(path)['status']).toEqual({ registryCount: 7 });
});

it('while the watch does not show what was written, each change is written once, and none is refused', async () => {
  await using w = await startWriter();
  w.admin.create(manifest);
  w.see();
  const reasons = (): string[] => {
    const status = w.admin.get(path)['status'] as { conditions: { reason: string }[] } | undefined;
    return status?.conditions.map(({ reason }) => reason) ?? [];
  };
  w.change(false);
  await eventually('the first is there', () => reasons().includes('PolicyMissing'));
  w.change(true);
  await eventually('the second is there', () => !reasons().includes('PolicyMissing'), 10_000);
  expect(w.tries()).toEqual([200, 200]);
});

it('what somebody else has written, and the watch does not show, is met ever more seldom', async () => {
  const clock = new FakeClock();
  const { writer, sent } = refusing(clock, () => new ConflictError('Conflict', 'somebody else was there'));
  writer.schedule('production');
  for (let second = 0; second < 120; second += 1) {
    await clock.advance(1_000);
    writer.schedule('production');
  }
  writer.stop();
  const waits = sent.slice(1).map((at, index) => Math.round((at - (sent[index] ?? 0)) / 1_000));
  expect(waits).toEqual([1, 2, 4, 8, 16, 30, 30]);
});

it('a write that is refused for a while is not tried again before its end, whatever changes meanwhile', async () => {
  const clock = new FakeClock();
  const later = () => new ThrottledError('TooManyRequests', 'later', { retryAfterMs: 7_000 });
  const { writer, sent } = refusing(clock, later);
  writer.schedule('production');
  for (let second = 0; second < 20; second += 1) {
    await clock.advance(1_000);
    writer.schedule('production');
  }
  writer.stop();
  const waits = sent.slice(1).map((at, index) => at - (sent[index] ?? 0));
  expect(waits.length).toBeGreaterThan(0);
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(7_000);
});
