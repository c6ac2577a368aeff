import { describe, expect, it } from 'vitest';
import { resourcesPath } from '../../src/api/groupVersion.ts';
import { eventually } from '../cluster/eventually.ts';
import { fastClock } from '../fastClock.ts';
import { LocalFailure } from '../sandbox/localClient.ts';
import { startWorld } from './world.ts';

describe.concurrent('rights', () => {
  it('a right that is taken away is named, the rest goes on, and its return is noticed', async () => {
    const clock = fastClock(8);
    await using w = await startWorld({ namespaces: ['team-a'] });
    const allowed = w.api.authorize;
    await w.operator({ clock });
    w.apply();
    await w.served('team-a');
    await w.ready();
    w.api.authorize = (attributes) =>
      allowed(attributes) && !(attributes.resource === 'serviceaccounts' && attributes.verb === 'patch');
    w.createNamespace('team-late');
    await eventually('it is told', () => w.condition('Ready')?.reason === 'MissingPermission');
    expect(w.condition('Ready')?.message).toContain('patch serviceaccounts');
    await eventually('the Secret is there all the same', () => w.secret('team-late'));
    w.api.authorize = allowed;
    await w.served('team-late');
    await w.ready();
  });

  it('of all that the operator asked for, nothing was refused', async () => {
    await using w = await startWorld();
    await w.operator({ args: ['--removal-delay=20ms'] });
    w.apply();
    await w.served('team-a', 'team-b');
    w.admin.delete(`${resourcesPath}/production`);
    await eventually('both are empty', () => w.secret('team-a') === null && w.secret('team-b') === null);
    const refused = w.api.audit
      .of({ user: w.sandbox.operatorUser })
      .filter(({ code, dryRun }) => code === 403 && !dryRun);
    expect(refused).toEqual([]);
    expect(() =>
      w.admin.as({ name: w.sandbox.operatorUser, groups: ['system:authenticated'] }).list('/api/v1/secrets'),
    ).toThrow(LocalFailure);
  });
});
