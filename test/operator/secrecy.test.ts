import { expect, it } from 'vitest';
import { annotations, resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { leaks } from '../faults/oracles/secrecy.ts';
import { fastClock } from '../fastClock.ts';
import type { AwsMode } from '../sandbox/awsModes.ts';
import type { KubeObject } from '../sandbox/kubeObject.ts';
import { host, startWorld, type World } from './world.ts';

// Tokens, sessions and keys go into pull secrets and the token store, and nowhere else: whatever went well or wrong, no
// piece of them stands in a log line of any level, an event, a status, a metric, an annotation, an address that was asked
// or any other object, in whatever spelling. What a crash prints is in crash.test.ts.

const keys = (turn: string) => ({
  AWS_ACCESS_KEY_ID: `AKIACANARY${turn.toUpperCase()}`,
  AWS_SECRET_ACCESS_KEY: `canary-secret-access-key-of-the-${turn}-turn`,
  AWS_SESSION_TOKEN: `canary-session-token-of-the-${turn}-turn/with+signs=`,
});
const secretKeys = (turn: string): string[] => Object.values(keys(turn)).slice(1);

/** Each fails in a region of its own, all at once. `leaked`: what somebody careless puts into his error. */
const failures = (leaked: string): readonly AwsMode[] => [
  ...(['denied', 'expired', 'throttled', 'empty', 'down', 'stall'] as const),
  ...[200, 403, 407, 502].map((html) => ({ html })),
  { error: 'AccessDeniedException', message: `User: ${leaked} is not authorized` },
  { error: 'ValidationException', message: `1 validation error: ${leaked}` },
  { error: 'UnrecognizedClientException', status: 403, message: leaked },
  { error: 'ServerException', status: 500, message: leaked },
  { error: 'SomethingNewException', message: leaked },
];
const regions = failures('').map((_, i) => `eu-west-${i + 1}`);

function putKeys(w: World, turn: string): void {
  const data = Object.entries(keys(turn)).map(([name, value]) => [name, Buffer.from(value).toString('base64')]);
  w.admin.apply({
    ...{ apiVersion: 'v1', kind: 'Secret', type: 'Opaque' },
    metadata: { name: 'aws-credentials', namespace: w.sandbox.namespace },
    data: Object.fromEntries(data) as Record<string, string>,
  });
}

function refreshNow(w: World, name: string, turn: string): void {
  const metadata = { annotations: { [annotations.refreshRequestedAt]: turn } };
  w.admin.merge(`${resourcesPath}/${name}`, { metadata });
}

/** An object but for what may hold secrets. */
function withoutItsSecrets(object: KubeObject): object {
  if (object.kind !== 'Secret') return object;
  const { data = {}, ...rest } = object as KubeObject & { data?: Record<string, string> };
  const { '.dockerconfigjson': _pullSecret, 'tokens.json': _tokenStore, ...more } = data;
  return rest.metadata.name === 'aws-credentials' ? rest : { ...rest, data: more };
}

/** Every version of every object, as it was written. */
function record(w: World): string[] {
  const written: string[] = [];
  w.api.store.subscribe(({ object }) => written.push(JSON.stringify(withoutItsSecrets(object))));
  return written;
}

/** A write of team-b's Secret that the API server refuses three times, quoting all of it. */
async function meetQuotingRefusals(w: World): Promise<void> {
  let refusals = 0;
  w.api.faults = ({ resource, patch, namespace, dryRun }) => {
    if (resource !== 'secrets' || patch !== 'apply' || dryRun || namespace !== 'team-b' || refusals > 2) return null;
    refusals += 1;
    const message = `Invalid value: ${JSON.stringify(w.secret('team-a'))}`;
    const details = { causes: [{ field: 'data', message }] };
    return { kind: 'answer', status: 422, body: { kind: 'Status', code: 422, reason: 'Invalid', message, details } };
  };
  w.admin.merge('/api/v1/namespaces/team-b/secrets/ecr-pull', { data: { '.dockerconfigjson': 'e30=' } });
  await eventually('the refusals were met', () => refusals > 2);
  await eventually('and survived', () => Object.keys(w.auths('team-b')).length > 0);
}

it('no piece of a secret stands anywhere but in pull secrets and the token store, whatever went wrong', async () => {
  const clock = fastClock(8);
  await using w = await startWorld({ now: () => clock.now(), aws: { tokenLifeMs: 40_000 } });
  const { aws, registry } = w.sandbox;
  const written = record(w);
  putKeys(w, 'first');
  const options = { clock, env: { AWS_MAX_ATTEMPTS: '1' } }; // at the lowest level, debug
  const first = await w.operator(options);
  const accessKeySecretRef = { name: 'aws-credentials' };
  const assumeRoleChain = [{ roleArn: 'arn:aws:iam::222222222222:role/pull' }];
  w.apply({ registries: [{ host }, { host: 'public.ecr.aws' }], credentials: { accessKeySecretRef, assumeRoleChain } });
  for (const region of regions) {
    const registries = [{ host: `123456789012.dkr.ecr.${region}.amazonaws.com` }];
    w.apply({ registries, credentials: { accessKeySecretRef } }, region);
  }
  for (const name of ['production', ...regions]) await w.ready(name);

  const leaked = [...secretKeys('first'), ...aws.tokens.secrets.slice(0, 4)].join(' ');
  for (const [i, mode] of failures(leaked).entries()) await aws.setMode(mode, { region: regions[i] ?? '' });
  for (const region of regions) refreshNow(w, region, 'failing');
  for (const region of regions) {
    await eventually(`${region} tells it`, () => w.condition('Refreshed', region)?.status === 'False');
  }
  await registry.down();
  await meetQuotingRefusals(w);
  const metrics = await first.metrics();
  await first.stop();

  await aws.reset();
  await registry.up();
  const second = await w.operator(options);
  putKeys(w, 'second');
  await eventually('the new keys are used', () =>
    aws.calls.some(({ accessKeyId }) => accessKeyId === keys('second').AWS_ACCESS_KEY_ID),
  );
  await w.ready();
  const texts = new Map([
    ['the log of the first', first.output.join('')],
    ['its metrics', metrics],
    ['the log of the second', second.output.join('')],
    ['its metrics, too', await second.metrics()],
    ['readiness', (await second.readyz()).text],
    ['the objects', written.join('\n')],
    ['what was asked of the API server', JSON.stringify(w.api.audit.entries)],
  ]);
  const canaries = [
    ...aws.tokens.secrets,
    ...aws.sessions.opened.flatMap(({ secretAccessKey, sessionToken }) => [secretAccessKey, sessionToken]),
    ...[...secretKeys('first'), ...secretKeys('second')],
  ];
  expect(leaks(texts, canaries)).toEqual([]);
  // The search does find them where they may be.
  const places = ['team-a', w.sandbox.namespace].map((namespace, i) =>
    JSON.stringify(w.secret(namespace, i === 0 ? 'ecr-pull' : 'ecr-pull-tokens')),
  );
  expect(leaks(new Map(places.map((text, i) => [String(i), text])), aws.tokens.secrets)).toHaveLength(2);
});
