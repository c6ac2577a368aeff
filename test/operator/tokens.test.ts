import { describe, expect, it } from 'vitest';
import { annotations, resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { host, staysSo, startWorld } from './world.ts';

describe.concurrent('tokens', () => {
  it('are refreshed long before their end, in place, with one write each, and pulls never fail', async () => {
    const clock = fastClock(8);
    await using w = await startWorld({ now: () => clock.now(), aws: { tokenLifeMs: 40_000 } });
    await w.operator({ clock });
    w.apply();
    await w.served('team-a', 'team-b');
    const first = w.secret('team-a');
    const mark = w.api.audit.mark();
    await eventually('a token has ended, and another was given out', async () => {
      expect((await w.pull('team-a')).ok).toBe(true);
      return w.sandbox.aws.tokens.all.length > 3 && w.sandbox.registry.count('live') > 0;
    });
    expect(w.sandbox.aws.tokens.stateOf(w.sandbox.aws.tokens.all[0]?.auth ?? '')).toBe('expired');
    expect(w.sandbox.registry.count('expired')).toBe(0);
    expect(w.secret('team-a')?.metadata.uid).toBe(first?.metadata.uid);
    const writes = w.api.audit.since(mark).fanOutWrites({ user: w.sandbox.operatorUser, namespace: 'team-b' });
    expect(writes.length).toBeGreaterThan(0);
    expect(writes.length).toBeLessThan(w.sandbox.aws.tokens.all.length);
    expect(new Set(writes.map(({ resource }) => resource))).toEqual(new Set(['secrets']));
  });

  it('AWS away for longer than their life: they stay, it is told, and all is right again after its return', async () => {
    const clock = fastClock(8);
    await using w = await startWorld({ now: () => clock.now(), aws: { tokenLifeMs: 15_000 }, namespaces: ['team-a'] });
    const operator = await w.operator({ clock });
    w.apply({ registries: [{ host }, { host: 'public.ecr.aws' }] });
    await w.served('team-a');
    await w.ready();
    expect(Object.keys(w.auths('team-a'))).toEqual([host, 'public.ecr.aws']);
    await w.sandbox.aws.setMode('down');
    await eventually('it is told', () => w.condition('Refreshed')?.reason === 'Expired');
    expect(w.condition('Ready')).toMatchObject({ status: 'False', reason: 'Expired' });
    expect(w.condition('Refreshed')?.message).toContain('ECONNREFUSED');
    // An expired one breaks pulls there that work without any.
    await eventually('the public entry goes', () => !Object.hasOwn(w.auths('team-a'), 'public.ecr.aws'));
    expect(Object.keys(w.auths('team-a'))).toEqual([host]);
    w.createNamespace('team-late');
    await staysSo(300, () => w.secret('team-late') === null);
    expect(await operator.metric('ecr_pull_secrets_refresh_failures_total{reason="Unreachable"}')).toBeGreaterThan(0);
    w.sandbox.aws.settings.tokenLifeMs = 12 * 3_600_000;
    await w.sandbox.aws.reset();
    const back = clock.now();
    await w.ready();
    expect(clock.now() - back).toBeLessThan(60_000);
    expect(w.condition('Refreshed')).toMatchObject({ status: 'True', message: 'every token is good' });
    expect(Object.keys(w.auths('team-a'))).toEqual([host, 'public.ecr.aws']);
    await w.served('team-late');
    expect(await w.pull('team-a')).toMatchObject({ ok: true });
  });

  it('a refusal of AWS is told in its words with the remedy, and is gone from the status once it is', async () => {
    const clock = fastClock(10);
    await using w = await startWorld({ now: () => clock.now() });
    await w.sandbox.aws.setMode('denied');
    await w.operator({ clock });
    w.apply();
    await eventually('it is told', () => w.condition('Refreshed')?.reason === 'AccessDenied');
    expect(w.condition('Refreshed')?.message).toMatch(
      /^123456789012\.dkr\.ecr\.us-east-1\.amazonaws\.com: AWS refuses ecr:GetAuthorizationToken in us-east-1 .*Allow ecr/,
    );
    expect(w.isServed('team-a')).toBe(false);
    await w.sandbox.aws.reset();
    w.admin.merge(`${resourcesPath}/production`, {
      metadata: { annotations: { [annotations.refreshRequestedAt]: 'now' } },
    });
    await w.ready();
    expect(JSON.stringify(w.resource().status)).not.toContain('refuses');
  });
});
