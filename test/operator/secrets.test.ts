import { describe, expect, it } from 'vitest';
import { annotations, resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { startWorld } from './world.ts';

describe.concurrent('secrets', () => {
  it('stand in no log line, event, status, metric, annotation or other object, whatever went wrong', async () => {
    const clock = fastClock(8);
    await using w = await startWorld({ now: () => clock.now(), aws: { tokenLifeMs: 25_000 } });
    const keys = { AWS_ACCESS_KEY_ID: 'AKIACANARY', AWS_SECRET_ACCESS_KEY: 'canary-secret-access-key' };
    w.admin.create({
      ...{ apiVersion: 'v1', kind: 'Secret', type: 'Opaque' },
      metadata: { name: 'aws-credentials', namespace: w.sandbox.namespace },
      data: Object.fromEntries(
        Object.entries(keys).map(([name, value]) => [name, Buffer.from(value).toString('base64')]),
      ),
    });
    const operator = await w.operator({ clock });
    const role = 'arn:aws:iam::222222222222:role/pull';
    w.apply({ credentials: { accessKeySecretRef: { name: 'aws-credentials' }, assumeRoleChain: [{ roleArn: role }] } });
    await w.served('team-a', 'team-b');
    const { aws, registry } = w.sandbox;
    for (const mode of ['denied', 'expired', { html: 502 }, 'empty', 'down'] as const) {
      await aws.setMode(mode);
      const failures = w.resource().status?.conditions.find(({ type }) => type === 'Refreshed')?.message;
      w.admin.merge(`${resourcesPath}/production`, {
        metadata: { annotations: { [annotations.refreshRequestedAt]: JSON.stringify(mode) } },
      });
      await eventually('it is told', () => {
        const condition = w.condition('Refreshed');
        return condition?.status === 'False' && condition.message !== failures;
      });
    }
    await aws.reset();
    await registry.down();
    // A write that the API server answers with the whole Secret in its refusal.
    let refusals = 0;
    w.api.faults = ({ resource, patch, namespace, dryRun }) => {
      if (resource !== 'secrets' || patch !== 'apply' || dryRun || namespace === w.sandbox.namespace || refusals > 2)
        return null;
      refusals += 1;
      const message = `Invalid value: ${JSON.stringify(w.secret('team-a'))}`;
      const body = {
        kind: 'Status',
        code: 422,
        reason: 'Invalid',
        message,
        details: { causes: [{ field: 'data', message }] },
      };
      return { kind: 'answer', status: 422, body };
    };
    w.admin.merge('/api/v1/namespaces/team-b/secrets/ecr-pull', { data: { '.dockerconfigjson': 'e30=' } });
    await eventually('the refusal was met', () => refusals > 0);
    await eventually('and survived', () => Object.keys(w.auths('team-b')).length === 1);
    const seen = [
      ...operator.output,
      await operator.metrics(),
      ...['/apis/events.k8s.io/v1/events', resourcesPath, '/api/v1/namespaces', '/api/v1/serviceaccounts'].flatMap(
        (path) => w.admin.list(path).map((object) => JSON.stringify(object)),
      ),
      ...w.admin.list('/api/v1/secrets').map(({ metadata }) => JSON.stringify(metadata)),
    ].join('\n');
    await operator.stop();
    const canaries = [
      ...aws.tokens.secrets,
      keys.AWS_SECRET_ACCESS_KEY,
      ...aws.sessions.opened.flatMap(({ secretAccessKey, sessionToken }) => [secretAccessKey, sessionToken]),
    ];
    expect(aws.tokens.all.length).toBeGreaterThan(1);
    for (const canary of canaries) {
      for (const form of [canary, Buffer.from(canary).toString('base64'), encodeURIComponent(canary)]) {
        expect(seen.includes(form.slice(0, 60)), 'a secret was found').toBe(false);
      }
    }
    const store = w.secret(w.sandbox.namespace, 'ecr-pull-tokens');
    expect(
      JSON.stringify(
        w.admin
          .list('/api/v1/secrets')
          .filter(
            ({ metadata }) =>
              metadata.uid !== store?.metadata.uid &&
              metadata.name !== 'ecr-pull' &&
              metadata.name !== 'aws-credentials',
          ),
      ),
    ).toBe('[]');
  });
});
