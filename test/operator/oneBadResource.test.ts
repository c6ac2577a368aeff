import { expect, it } from 'vitest';
import { crd } from '../../src/api/clusterEcrPullSecret.ts';
import { apiVersion, kind, resourcesPath } from '../../src/api/groupVersion.ts';
import { badSamples } from '../api/badSamples.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import type { Manifest } from '../sandbox/localClient.ts';
import { seeded } from '../seeded.ts';
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

const samples: readonly [what: string, spec: unknown, condition: string][] = [
  ...badSamples.map(({ name, spec }): [string, unknown, string] => [name, spec, 'Stalled']),
  ...onlyTheReconcilerSees.map(([name, spec]): [string, unknown, string] => [name, spec, 'Stalled']),
  ...withoutIdentity.map(([name, spec]): [string, unknown, string] => [name, spec, 'Ready']),
];

const random = seeded(Date.now());
const oneOf = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;

/** Puts it there, and waits until the operator says of it what is wrong. */
async function putBad(w: World, name: string, [what, spec, condition]: (typeof samples)[number]): Promise<void> {
  put(w, name, spec);
  await eventually(`${what} is told`, () => {
    const told = w.condition(condition, name);
    return told !== undefined && told.status === (condition === 'Stalled' ? 'True' : 'False');
  });
}

/** How long a namespace that a good resource selects waits for its Secret and entry, ms. */
async function timeToServe(w: World, namespace: string): Promise<number> {
  const started = performance.now();
  w.createNamespace(namespace);
  await w.served(namespace);
  return performance.now() - started;
}

// Most of the time is spent waiting for what is told: several worlds at a time.
const parts = Array.from({ length: 4 }, (_, part) => samples.filter((_, index) => index % 4 === part));

it.concurrent.each(parts.map((part) => [part.length, part] as const))(
  `beside each of %i of the ${samples.length} bad resources twenty good ones are served on time, and the bad one heals when it is mended`,
  async (_, part) => {
    const clock = fastClock(5);
    const options = { crd: false, manifests: [openCrd()], validateCustom: () => [], now: () => clock.now() };
    const ofBad = part.map((_, i) => `bad-${i}`); // each has a namespace that no other selects
    await using w = await startWorld({ ...options, namespaces: [...good.map((name) => `${name}-old`), ...ofBad] });
    const operator = await w.operator({ clock, args: ['--removal-delay=20ms'] });
    for (const name of good) put(w, name, specFor(name));
    for (const name of good) await w.ready(name);
    await w.quiet();
    const old = good.map((name) => `${name}-old`);
    const before = w.published(...old);
    const calls = w.tokenCalls();

    const mended: Promise<void>[] = [];
    for (const [i, sample] of part.entries()) {
      const [what] = sample;
      const bad = `a-bad-${i}`; // the first in order
      await putBad(w, bad, sample);
      const namespace = `${oneOf(good)}-${i}`;
      expect({ what, namespace, ms: await timeToServe(w, namespace) }).toMatchObject({
        ms: expect.toSatisfy((ms: number) => ms < MOST_MS) as number,
      });
      // Where the machine is slow, the new namespace was awaited for a moment, and the status said so.
      for (const name of good) await w.ready(name);
      expect({ what, isServed: w.secret(`bad-${i}`) !== null }).toEqual({ what, isServed: false });
      put(w, bad, { ...specFor('bad'), namespaces: { names: [`bad-${i}`] } });
      mended.push(
        Promise.all([w.ready(bad), w.served(`bad-${i}`)]).then(() => w.admin.delete(`${resourcesPath}/${bad}`)),
      );
    }
    await Promise.all(mended);
    const isEmpty = (name: string): boolean => w.secret(name) === null && w.entries(name).length === 0;
    await eventually('all of theirs are empty again', () => ofBad.every(isEmpty));
    await w.quiet();
    expect(w.published(...old)).toEqual(before);
    expect(w.tokenCalls()).toBe(calls);
    expect(operator.lines().filter(({ level }) => level === 'error')).toEqual([]);
  },
  60_000,
);

it.concurrent(
  `beside all ${samples.length} bad resources at once, twenty good ones are refreshed as each refresh falls due`,
  async () => {
    const clock = fastClock(12);
    const options = { crd: false, manifests: [openCrd()], validateCustom: () => [], now: () => clock.now() };
    const lifeMs = 60_000;
    const old = good.map((name) => `${name}-old`);
    await using w = await startWorld({ ...options, aws: { tokenLifeMs: lifeMs }, namespaces: old });
    await w.operator({ clock, args: ['--removal-delay=20ms'] });
    for (const name of good) put(w, name, specFor(name));
    await w.served(...old);
    await Promise.all(samples.map((sample, i) => putBad(w, `a-bad-${i}`, sample)));
    const { tokens } = w.sandbox.aws;
    const first = tokens.all.length;
    const leftMs = (namespace: string): number =>
      (tokens.get(w.auths(namespace)[host]?.auth ?? '')?.expiresAt ?? 0) - clock.now();
    await eventually('two more tokens have come', () => {
      for (const namespace of old) {
        expect({ namespace, leftMs: leftMs(namespace) }).toMatchObject({
          leftMs: expect.toSatisfy((ms: number) => ms > lifeMs / 10) as number, // due at half of it
        });
      }
      return tokens.all.length >= first + 2;
    });
  },
  60_000,
);
