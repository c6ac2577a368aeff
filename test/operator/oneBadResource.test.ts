import { expect, it } from 'vitest';
import { crd } from '../../src/api/clusterEcrPullSecret.ts';
import { apiVersion, kind, resourcesPath } from '../../src/api/groupVersion.ts';
import { badSamples } from '../api/badSamples.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import type { Manifest } from '../sandbox/localClient.ts';
import { host, startWorld, type World } from './world.ts';

// Whatever one resource says, those beside it are served on time. The API server lets all of it through, as one with an
// older CRD would, and as it does where no schema can tell.

const goodCount = 20;
const MOST_MS = 3_000; // a new namespace, beside the bad one: some 50 without, but the machine may be busy

const onlyTheReconcilerSees: [what: string, spec: unknown][] = [
  ['31 February', { ...specFor('bad'), refresh: { schedule: '0 0 31 2 *' } }],
  ['an hour that no day has', { ...specFor('bad'), refresh: { schedule: '0 25 * * *' } }],
  ['an unknown time zone', { ...specFor('bad'), refresh: { timeZone: 'Europe/Atlantis' } }],
  ['a source of a later version', { ...specFor('bad'), credentials: { rolesAnywhere: {} } }],
  ['a list for a spec', []],
  ['a text for a spec', 'bad'],
  ['an empty spec', {}],
  ['registries as an object', { ...specFor('bad'), registries: { host } }],
  ['registries of nothing', { ...specFor('bad'), registries: [null] }],
  ['namespaces as a list', { ...specFor('bad'), namespaces: ['*'] }],
  ['a megabyte of text', { ...specFor('bad'), registries: [{ host: 'x'.repeat(2 ** 20) }] }],
  ['thousands of patterns', { ...specFor('bad'), namespaces: { names: Array(20_000).fill('*a*a*a*a*b') } }],
  [
    'text that stalls a careless pattern',
    { ...specFor('bad'), refresh: { schedule: `${'*/1,'.repeat(50_000)} * * * *` } },
  ],
  ['lists in lists', { ...specFor('bad'), registries: JSON.parse(`${'['.repeat(500)}${']'.repeat(500)}`) as unknown }],
];

/** Refused by their identity, not by their spec: `Ready` tells it. */
const withoutIdentity: [what: string, spec: unknown][] = [
  [
    'keys that the operator may not read',
    { ...specFor('bad'), credentials: { accessKeySecretRef: { name: 'other' } } },
  ],
  ['keys that are not there', { ...specFor('bad'), credentials: { accessKeySecretRef: { name: 'aws-credentials' } } }],
];

function specFor(name: string): object {
  return { registries: [{ host }], namespaces: { names: [`${name}-*`] } };
}

/** The CRD without its schema: everything comes through. */
function openCrd(): Manifest {
  const definition = structuredClone(crd()) as { spec: { versions: { schema: object }[] } };
  const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  for (const one of definition.spec.versions) one.schema = { openAPIV3Schema: anything };
  return definition as unknown as Manifest;
}

const good = Array.from({ length: goodCount }, (_, i) => `good-${String(i).padStart(2, '0')}`);

function put(w: World, name: string, spec: unknown): void {
  w.admin.apply({ apiVersion, kind, metadata: { name }, spec });
}

const samples = [
  ...badSamples.map(({ name, spec }): [string, unknown, string] => [name, spec, 'Stalled']),
  ...onlyTheReconcilerSees.map(([name, spec]): [string, unknown, string] => [name, spec, 'Stalled']),
  ...withoutIdentity.map(([name, spec]): [string, unknown, string] => [name, spec, 'Ready']),
];

it(`beside each of ${samples.length} bad resources twenty good ones are served on time, and the bad one heals when it is mended`, async () => {
  const clock = fastClock(5);
  const options = { crd: false, manifests: [openCrd()], validateCustom: () => [], now: () => clock.now() };
  await using w = await startWorld({ ...options, namespaces: [...good.map((name) => `${name}-old`), 'bad-ns'] });
  const operator = await w.operator({ clock, args: ['--removal-delay=20ms'] });
  for (const name of good) put(w, name, specFor(name));
  for (const name of good) await w.ready(name);
  await w.quiet();
  const old = good.map((name) => `${name}-old`);
  const before = w.published(...old);
  const calls = w.tokenCalls();

  const mended: Promise<void>[] = [];
  for (const [i, [what, spec, condition]] of samples.entries()) {
    const bad = `a-bad-${i}`; // the first in order
    put(w, bad, spec);
    await eventually(`${what} is told`, () => {
      const told = w.condition(condition, bad);
      return told !== undefined && told.status === (condition === 'Stalled' ? 'True' : 'False');
    });
    const namespace = `${good[i % goodCount]}-${i}`;
    const started = performance.now();
    w.createNamespace(namespace);
    await w.served(namespace);
    expect({ what, ms: performance.now() - started }).toMatchObject({
      ms: expect.toSatisfy((ms: number) => ms < MOST_MS) as number,
    });
    // Where the machine is slow, the new namespace was awaited for a moment, and the status said so.
    for (const name of good) await w.ready(name);
    put(w, bad, specFor('bad'));
    mended.push(w.ready(bad).then(() => w.admin.delete(`${resourcesPath}/${bad}`)));
  }
  await Promise.all(mended);
  await w.quiet();
  expect(w.published(...old)).toEqual(before);
  expect(w.tokenCalls()).toBe(calls);
  expect(operator.lines().filter(({ level }) => level === 'error')).toEqual([]);
}, 60_000);
