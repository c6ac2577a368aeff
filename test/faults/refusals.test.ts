import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../cluster/eventually.ts';
import { isLong } from '../cluster/scaled.ts';
import {
  askForRefresh,
  accountPath,
  resourcePath,
  secretPath,
  waitForCondition,
  waitForToken,
  type PullSecretResource,
} from '../cluster/served.ts';
import { atEveryRequest, Endurance, type Begin } from './endure.ts';
import { Night } from './night.ts';
import { Pace } from './pace.ts';
import { Webhook, type WebhookOptions } from './webhook.ts';

// One namespace refuses what the operator writes to it, and all others go on.

let night: Night;
let endurance: Endurance;
let pace: Pace;

beforeAll(async () => {
  night = await Night.begin();
  endurance = await Endurance.begin(night);
  pace = await Pace.of(night, endurance);
});
afterAll(() => night?.end());

/** The namespace whose Secret, or whose entry, is to be put right while it is refused. */
const withoutSecret = () => `${endurance.round}-a`;
const withoutEntry = () => `${endurance.round}-b`;

function webhook(options: Omit<WebhookOptions, 'namespace'>): Begin {
  return async ({ cluster }) => {
    const namespace = options.resource === 'secrets' ? withoutSecret() : withoutEntry();
    const opened = await Webhook.open(cluster, { ...options, namespace });
    return () => opened.close();
  };
}

/** In the API server's place. */
function answered(code: number, reason: string): Begin {
  return (night) => {
    const path = secretPath(withoutSecret());
    const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code, reason, message: reason };
    const answer = { status: code, body };
    return atEveryRequest((request) => (isTry(request, path) ? { answer } : null), { reset: false })(night);
  };
}

/** Used up: in the namespace that is to get its Secret anew, and in one that has it. */
const quota: Begin = async ({ admin }) => {
  const namespaces = [withoutSecret(), 'team-1'];
  for (const namespace of namespaces) {
    const used = (await admin.list(`/api/v1/namespaces/${namespace}/secrets`)).length;
    await admin.create({
      ...{ apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: 'few', namespace } },
      spec: { hard: { 'count/secrets': String(namespace === 'team-1' ? used : 0) } },
    });
    const body = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'one-more', namespace } };
    await eventually(`the quota of ${namespace} is in force`, async () => {
      const path = `/api/v1/namespaces/${namespace}/secrets`;
      return (await admin.request('POST', path, { query: { dryRun: 'All' }, body })).status === 403;
    });
  }
  return async () => {
    for (const namespace of namespaces) await admin.delete(`/api/v1/namespaces/${namespace}/resourcequotas/few`);
  };
};

function isTry({ method, path }: { method: string; path: string }, object: string): boolean {
  return method === 'PATCH' && path.startsWith(`${object}?`);
}

/** When the operator tried to write an object, ms. Where a patch's test fails, reading and patching again is the same try. */
function triesOf(object: string): number[] {
  const requests = night.replicas.flatMap(({ proxy }) => proxy.requests);
  const tries = requests.filter((request) => isTry(request, object));
  return tries.filter((_, index) => tries[index - 1]?.status !== 422).map(({ time }) => time);
}

const status = async () => (await night.admin.get<PullSecretResource>(resourcePath()))?.status;

async function isTold(namespace: string, message: RegExp): Promise<void> {
  const ready = await waitForCondition(night.admin, 'Ready', ({ reason }) => reason === 'NamespacesFailed', {
    timeoutMs: 30_000,
  });
  expect(ready).toMatchObject({ status: 'False', message: expect.stringContaining(namespace) as string });
  const failures = (await status())?.failures;
  expect(failures).toEqual([{ namespace, message: expect.stringMatching(message) as string }]);
  const metric = 'ecr_pull_secrets_namespaces{resource="production",state="failed"}';
  const counts = await Promise.all(night.replicas.map(({ operator }) => operator.metric(metric)));
  expect(counts).toContain(1);
}

async function isForgotten(): Promise<void> {
  await waitForCondition(night.admin, 'Ready', (condition) => condition.status === 'True', { timeoutMs: 30_000 });
  expect((await status())?.failures).toEqual([]);
}

interface Refusal {
  name: string;
  begin: Begin;
  message: RegExp;
  refused?: () => string;
  lastsMs?: number;
}

const pass = /denied the request.*; whoever runs it must let this write pass$/;
const all: Refusal[] = [
  { name: 'are denied by a webhook', begin: webhook({ resource: 'secrets', answer: 403 }), message: pass },
  {
    name: 'wait for a webhook that does not answer',
    begin: webhook({ resource: 'secrets', answer: 'never', timeoutSeconds: 2 }),
    message: /500 InternalError: failed calling webhook "guard.example.org"; mend that webhook/,
  },
  {
    name: 'of ServiceAccounts are denied by a webhook with the code of a failed patch',
    begin: webhook({ resource: 'serviceaccounts', answer: 422 }),
    message: pass,
    refused: withoutEntry,
  },
  {
    name: 'are too large for a proxy',
    begin: answered(413, 'RequestEntityTooLarge'),
    message: /413 RequestEntityTooLarge; raise the limit/,
  },
  { name: 'are said to be invalid', begin: answered(422, 'Invalid'), message: /422 Invalid; .*audit log/ },
  {
    name: 'wait for a webhook longer than for any answer',
    begin: webhook({ resource: 'secrets', answer: 'never', timeoutSeconds: 30 }),
    message: /no answer within 8 s; .* for an admission webhook that does not answer/,
    lastsMs: 12_000,
  },
  {
    name: 'wait for a webhook that is away',
    begin: webhook({ resource: 'secrets', answer: 'away' }),
    message: /failed calling webhook "guard.example.org"; mend that webhook/,
  },
  {
    name: 'of ServiceAccounts are denied by a webhook',
    begin: webhook({ resource: 'serviceaccounts', answer: 403 }),
    message: pass,
    refused: withoutEntry,
  },
];
const inShort = 5;
if (!isLong) console.log(`${all.length - inShort} more refusals with --long`);

describe('while writes to one namespace', () => {
  test.each((isLong ? all : all.slice(0, inShort)).map((refusal) => [refusal.name, refusal] as const))(
    '%s, it is told with its remedy, the others are served at once, and it heals',
    async (_, { begin, message, refused = withoutSecret, lastsMs = 3_000 }) => {
      const during = async () => {
        await pace.isKept([refused()]);
        await isTold(refused(), message);
      };
      expect(await endurance.under(begin, { lastsMs, during })).toEqual([]);
      await isForgotten();
    },
  );
});

test('while a quota is used up, what is there is refreshed nevertheless, what is missing is told, and it heals', async () => {
  const { admin, ecr } = night;
  const during = async () => {
    await pace.isKept([withoutSecret()]);
    await isTold(withoutSecret(), /exceeded quota: few; raise that quota, or delete what uses it up$/);
    await ecr.rested();
    const calls = ecr.calls.length;
    await askForRefresh(admin);
    await eventually('AWS is asked', () => ecr.calls.length > calls);
    const namespaces = endurance.namespaces.filter((name) => name !== withoutSecret());
    await waitForToken(admin, { namespaces, auth: () => ecr.issued.at(-1)?.auth, timeoutMs: 10_000 });
  };
  expect(await endurance.under(quota, { lastsMs: 3_000, during, calls: 1 })).toEqual([]);
  await isForgotten();
});

test.each(isLong ? (['secrets', 'serviceaccounts'] as const) : (['secrets'] as const))(
  'while writes of %s go on being refused, the operator tries ever more slowly, whatever else happens there',
  async (resource) => {
    const of = () => (resource === 'secrets' ? secretPath(withoutSecret()) : accountPath(withoutEntry()));
    const lastsMs = isLong ? 120_000 : 18_000;
    const from = Date.now();
    const stir = new AbortController();
    const begin: Begin = async (night) => {
      const end = await webhook({ resource, answer: 403 })(night);
      return async () => {
        stir.abort();
        await end();
      };
    };
    const during = async () => {
      const namespace = resource === 'secrets' ? withoutSecret() : withoutEntry();
      // Somebody puts another list on the ServiceAccount there twice a second.
      for (let i = 0; !stir.signal.aborted && Date.now() - from < lastsMs; i++) {
        await night.admin.patch(accountPath(namespace), { imagePullSecrets: [{ name: `other-${i}` }] });
        await sleep(500);
      }
    };
    expect(await endurance.under(begin, { lastsMs, during })).toEqual([]);
    const tries = triesOf(of()).filter((time) => time < from + lastsMs);
    const first = tries[0] ?? Infinity;
    const steady = tries.filter((time) => time > first + 5_000);
    expect(tries.length).toBeGreaterThanOrEqual(4);
    expect(steady.length).toBeGreaterThanOrEqual(1);
    expect(steady.slice(1).filter((time, i) => time - (steady[i] ?? 0) < 5_000)).toEqual([]);
    await isForgotten();
  },
);

test('afterwards nothing is written', async () => {
  expect(await endurance.quiet()).toEqual([]);
});
