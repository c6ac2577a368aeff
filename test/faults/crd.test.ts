import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { setTimeout as sleep } from 'node:timers/promises';
import { crdName } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import type { KubeObject } from '../cluster/kubeApi.ts';
import { isLong, scaled } from '../cluster/scaled.ts';
import { resource, resourcePath } from '../cluster/served.ts';
import { Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';

// Whatever becomes of the CRD, nothing is removed. test/cluster/crd.test.ts has one operator, and no life beside it.

const crdPath = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${crdName}`;
/** Longer than any wait after which something might be removed: the delay of 5 s, and the next look 5 s later. */
const lastsMs = scaled(60_000, 11_500);

type Crd = KubeObject & { status?: { conditions?: { type: string; status: string }[] } };

let night: Night;
let endurance: Endurance;
let definition: KubeObject;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
  const crd = await night.admin.get<Crd>(crdPath);
  if (crd === null) throw new Error('no CRD');
  const { name, labels = {}, annotations = {} } = crd.metadata;
  definition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name, labels, annotations },
    spec: crd['spec'],
  };
});
afterAll(() => night?.end());

async function remove(): Promise<void> {
  await night.admin.delete(crdPath);
  await night.admin.waitForAbsence(crdPath);
}

async function install(): Promise<void> {
  await night.admin.create(definition);
  const isEstablished = ({ status }: Crd) =>
    status?.conditions?.some((condition) => condition.type === 'Established' && condition.status === 'True');
  await night.admin.waitFor<Crd>(crdPath, isEstablished);
}

/** The API server offers it some moments later. */
async function createResource(): Promise<void> {
  await eventually('there is a resource again', () => night.admin.create(resource()));
}

async function bothRun(): Promise<void> {
  expect(night.replicas).toHaveLength(2);
  for (const { operator } of night.replicas) expect((await operator.health('healthz')).status).toBe(200);
}

const isGone: Begin = async () => {
  await remove();
  return async () => {
    await install();
    await createResource();
  };
};

const isReplaced: Begin = async () => {
  await remove();
  await install();
  return createResource;
};

/** A finalizer of somebody else holds it on its way out. */
const hangs: Begin = async ({ admin }) => {
  await admin.patch(resourcePath(), { metadata: { finalizers: ['example.org/hold'] } });
  await admin.delete(crdPath);
  await admin.waitFor(crdPath, ({ metadata }) => metadata.deletionTimestamp !== undefined);
  return async () => {
    await admin.patch(resourcePath(), { metadata: { finalizers: null } });
    await admin.waitForAbsence(crdPath);
    await install();
    await createResource();
  };
};

const comesAndGoes: Begin = async () => {
  for (let i = 0; i < 3; i++) {
    await remove();
    await sleep(2_000);
    await install();
    await createResource();
    await sleep(2_000);
  }
  return () => undefined;
};

const all: [string, Begin][] = [
  ['is away with its resource', isGone],
  ['is held on its way out', hangs],
  ['is another one that has no resource yet', isReplaced],
  ['comes and goes thrice', comesAndGoes],
];
const inShort = 2;
if (!isLong)
  console.log(`${all.length - inShort} more fates of the CRD with --long, and the end of the leader meanwhile`);

describe('while the CRD', () => {
  test.each(isLong ? all : all.slice(0, inShort))(
    '%s, nothing is removed, and all is served when the resource is back',
    async (_, begin) => {
      expect(await endurance.under(begin, { lastsMs, during: bothRun })).toEqual([]);
    },
  );

  test('is absent when both replicas start, they live and say so, and serve when it is there', async () => {
    const begin: Begin = async (night) => {
      await night.killAll();
      await remove();
      await Promise.all([1, 2].map(() => night.startReplica({ waitUntilReady: false })));
      return async () => {
        await install();
        await createResource();
        await Promise.all(night.replicas.map(({ operator }) => operator.waitUntilReady()));
      };
    };
    const during = async () => {
      for (const { operator } of night.replicas) {
        await eventually('/readyz tells', async () => {
          const { status, text } = await operator.health('readyz');
          return status === 503 && text.includes('ClusterECRPullSecret');
        });
      }
      await bothRun();
    };
    expect(await endurance.under(begin, { lastsMs, during })).toEqual([]);
  });

  test.skipIf(!isLong)('is away, the leader dies, and the next one removes nothing either', async () => {
    const begin: Begin = async (night) => {
      const end = await isGone(night);
      await (await night.leader()).operator.kill();
      await sleep(20_000); // the lease of 15 s and a try
      return async () => {
        await end();
        await night.startReplica();
      };
    };
    expect(await endurance.under(begin, { lastsMs })).toEqual([]);
  });
});

test('afterwards nothing is written', async () => {
  expect(await endurance.afterwards()).toEqual([]);
});
