import { describe, expect, it } from 'vitest';

import { EventRecorder, type RecordedEvent } from '../../src/kube/eventRecorder.ts';
import { FakeClock, flush } from '../fakeClock.ts';
import { quickest } from '../memoryGrowth.ts';
import { answer, clientFor, startServer, statusBody, TestLog, type Handler } from './testServer.ts';

const event: RecordedEvent = {
  regarding: { apiVersion: 'example.io/v1', kind: 'Thing', name: 'production', uid: 'u-1' },
  type: 'Warning',
  reason: 'Refused',
  action: 'Refresh',
  note: 'it was refused',
};

interface Written {
  method: string;
  path: string;
  body: Record<string, unknown> & { metadata: { name: string }; note: string };
}

async function recorder(
  handle?: Handler,
): Promise<{ events: EventRecorder; clock: FakeClock; written: Written[]; log: TestLog }> {
  const written: Written[] = [];
  const server = await startServer((request, response) => {
    written.push({ method: request.method!, path: request.url, body: JSON.parse(request.body) as Written['body'] });
    if (handle) handle(request, response);
    else answer(response, 201, { kind: 'Event', metadata: {} });
  });
  const clock = new FakeClock();
  const { client, log } = clientFor(server, { clock });
  const events = new EventRecorder({ client, clock, log, instance: 'pod-1', controller: 'example.io/operator' });
  return { events, clock, written, log };
}

describe('EventRecorder', () => {
  it('writes events.k8s.io/v1, of objects without a namespace in `default`', async () => {
    const { events, written } = await recorder();
    events.record(event);
    await events.flush();
    expect(written).toHaveLength(1);
    const { method, path, body } = written[0]!;
    expect([method, path]).toEqual(['POST', '/apis/events.k8s.io/v1/namespaces/default/events']);
    expect(body).toMatchObject({
      ...{ apiVersion: 'events.k8s.io/v1', kind: 'Event', eventTime: '2026-01-01T00:00:00.000000Z' },
      ...{ reportingController: 'example.io/operator', reportingInstance: 'pod-1', ...event },
    });
    expect(body.metadata.name).toMatch(/^production\.[0-9a-f]+$/);
    expect(body['series']).toBeUndefined();
  });

  it('writes those of a namespaced object beside it', async () => {
    const { events, written } = await recorder();
    events.record({ ...event, regarding: { ...event.regarding, namespace: 'team' } });
    await events.flush();
    expect(written[0]?.path).toBe('/apis/events.k8s.io/v1/namespaces/team/events');
  });

  it('makes a series of repeats, written now and then', async () => {
    const { events, clock, written } = await recorder();
    for (let i = 0; i < 100; i++) {
      events.record(event);
      await clock.advance(1000);
    }
    await events.flush();
    const [first, ...patches] = written;
    expect(first?.method).toBe('POST');
    expect(patches.length).toBeLessThanOrEqual(5);
    expect(new Set(patches.map(({ method, path }) => `${method} ${path}`))).toEqual(
      new Set([`PATCH /apis/events.k8s.io/v1/namespaces/default/events/${first?.body.metadata.name}`]),
    );
    expect(patches.at(-1)?.body).toEqual({ series: { count: 100, lastObservedTime: '2026-01-01T00:01:39.000000Z' } });
  });

  it('begins anew after a long pause, and where the event is gone', async () => {
    const { events, clock, written } = await recorder((request, response) => {
      if (request.method === 'PATCH') answer(response, 404, statusBody(404, 'NotFound'));
      else answer(response, 201, { kind: 'Event', metadata: {} });
    });
    events.record(event);
    await events.flush();
    events.record(event);
    await events.flush();
    expect(written.map(({ method }) => method)).toEqual(['POST', 'PATCH', 'POST']);
    expect(written[2]?.body['series']).toMatchObject({ count: 2 });
    await clock.advance(7 * 60_000);
    events.record(event);
    await events.flush();
    expect(written.at(-1)?.method).toBe('POST');
    expect(written.at(-1)?.body.metadata.name).not.toBe(written[0]?.body.metadata.name);
  });

  it('is bounded for each object and minute', async () => {
    const { events, clock, written } = await recorder();
    for (let i = 0; i < 50; i++) events.record({ ...event, note: `failure ${i}` });
    events.record({ ...event, regarding: { ...event.regarding, name: 'other' } });
    await events.flush();
    expect(written).toHaveLength(11);
    await clock.advance(60_000);
    events.record({ ...event, note: 'later' });
    await events.flush();
    expect(written).toHaveLength(12);
  });

  it('cuts notes between characters and names to what is allowed', async () => {
    const { events, written } = await recorder();
    events.record({ ...event, note: 'ä'.repeat(2000), regarding: { ...event.regarding, name: 'n'.repeat(253) } });
    events.record({ ...event, note: `${'x'.repeat(1020)}€€` });
    await events.flush();
    for (const { body } of written) {
      expect(Buffer.byteLength(body.note)).toBeLessThanOrEqual(1024);
      expect(body.note).toMatch(/[äx€]…$/);
      expect(body.note).not.toContain('\ufffd');
      expect(body.metadata.name.length).toBeLessThanOrEqual(253);
    }
  });

  it('shows what the redactor leaves', async () => {
    const clock = new FakeClock();
    const bodies: unknown[] = [];
    const client = { request: <T>({ body }: { body?: unknown }) => Promise.resolve(void bodies.push(body) as T) };
    const redact = (text: string): string => text.replaceAll('S3CRET', '[redacted]');
    const events = new EventRecorder({ client, clock, log: new TestLog(), instance: 'pod-1', redact });
    events.record({ ...event, note: 'the key S3CRET' });
    await events.flush();
    expect(JSON.stringify(bodies)).toContain('the key [redacted]');
    expect(JSON.stringify(bodies)).not.toContain('S3CRET');
  });

  it('throws nothing and stops nobody where the server refuses', async () => {
    const { events, log } = await recorder((_, response) => answer(response, 403, statusBody(403, 'Forbidden')));
    events.record(event);
    events.record({ ...event, note: 'two' });
    await events.flush();
    await flush();
    expect(log.lines.map(({ message }) => message)).toEqual(['event not written', 'event not written']);
  });

  it('forgets what a full queue drops: it is written when it comes again', async () => {
    const { events, clock, names, hold, release } = held();
    hold();
    for (let i = 0; i < 1_000; i++) events.record(of(i));
    release();
    await events.flush();
    expect(names()).toHaveLength(501); // one under way, the others in the queue
    events.record(of(999));
    await events.flush();
    expect(names()).toHaveLength(502);
    await clock.advance(30_000);
    expect(names()).toHaveLength(502); // no count of what was never written
  });

  it('writes the count of a series whose turn fell on a full queue, at its next repeat', async () => {
    const { events, clock, bodies, hold, release } = held();
    events.record(event);
    await events.flush();
    hold();
    events.record(event);
    for (let i = 0; i < 1_000; i++) events.record(of(i));
    await clock.advance(30_000);
    release();
    await events.flush();
    bodies.length = 0;
    events.record(event);
    await clock.advance(30_000);
    expect(bodies).toEqual([{ series: { count: 3, lastObservedTime: expect.any(String) as string } }]);
  });

  it('keeps a bounded number of series, and forgets the one that was seen least lately', async () => {
    const { events, names, bodies } = held();
    for (let i = 0; i < 6_000; i += 250) {
      for (let k = 0; k < 250; k++) events.record(of(i + k));
      events.record(event);
      await events.flush();
    }
    expect(new Set(names()).size).toBe(6_001 + 1); // the counts of the one have no name
    bodies.length = 0;
    for (const known of [event, of(5_999), of(2_000), of(0)]) events.record(known);
    await events.flush();
    const told = bodies.map((body) => ('series' in (body as object) ? 'repeat' : 'new'));
    expect(told.toSorted()).toEqual(['new', 'repeat', 'repeat', 'repeat']);
  });

  it('costs no more after a storm, however many events are known', async () => {
    const { events, hold, release } = held();
    const cost = (): number =>
      quickest(() => {
        for (let i = 0; i < 2_000; i++) events.record(of(0));
      });
    for (let i = 0; i < 5_000; i++) {
      events.record(of(i));
      if (i % 250 === 0) await events.flush();
    }
    hold();
    for (let i = 5_000; i < 35_000; i++) events.record(of(i));
    release();
    await events.flush();
    expect(cost()).toBeLessThan(100); // ms; some 10, and 500 where all of them are walked over
  });
});

function of(index: number): RecordedEvent {
  const regarding = { apiVersion: 'v1', kind: 'ServiceAccount', name: `sa-${index}`, namespace: `n-${index}` };
  return { ...event, regarding, note: `dropped ${index} times` };
}

/** An API server that answers when it is let. */
function held() {
  const clock = new FakeClock();
  const bodies: unknown[] = [];
  let { promise, resolve: release } = Promise.withResolvers<void>();
  release();
  const client = {
    request: async <T>({ body }: { body?: unknown }): Promise<T> => {
      bodies.push(body);
      await promise;
      return undefined as T;
    },
  };
  return {
    ...{ clock, bodies },
    events: new EventRecorder({ client, clock, log: new TestLog(), instance: 'pod-1' }),
    names: () => bodies.map((body) => (body as { metadata?: { name: string } }).metadata?.name),
    hold: () => void ({ promise, resolve: release } = Promise.withResolvers<void>()),
    release: () => release(),
  };
}
