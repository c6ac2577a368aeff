import { describe, expect, it, vi } from 'vitest';
import { Permissions } from '../../src/controller/permissions.ts';
import { FakeClock } from '../fakeClock.ts';

interface Review {
  spec: { resourceAttributes: { verb: string; resource: string; namespace?: string; name?: string } };
}

/** An API server that allows what is in the set: "patch secrets". */
function world(...allowed: string[]) {
  const rights = new Set(allowed);
  const asked: string[] = [];
  const clock = new FakeClock();
  const onChange = vi.fn<() => void>();
  const request = <T>({ body }: { body?: unknown }) => {
    const { verb, resource } = (body as Review).spec.resourceAttributes;
    asked.push(`${verb} ${resource}`);
    return Promise.resolve({ status: { allowed: rights.has(`${verb} ${resource}`) } } as T);
  };
  return { rights, asked, clock, onChange, permissions: new Permissions({ client: { request }, clock, onChange }) };
}

const right = (verb: string, resource: string) => ({ verb, group: '', resource, namespace: 'team', name: 'ecr-pull' });

describe('a 403', () => {
  it('of a quota or a webhook is no missing right', async () => {
    const { permissions, onChange } = world('patch serviceaccounts');
    expect(await permissions.confirmMissing(right('patch', 'serviceaccounts'))).toBe(false);
    expect(permissions.missing).toEqual([]);
    expect(onChange).not.toHaveBeenCalled();
  });

  it('is a missing right where the API server confirms it; it is asked for once', async () => {
    const { permissions, asked, onChange } = world();
    expect(await permissions.confirmMissing(right('patch', 'serviceaccounts'))).toBe(true);
    expect(await permissions.confirmMissing(right('patch', 'serviceaccounts'))).toBe(true);
    expect(asked).toEqual(['patch serviceaccounts']);
    expect(onChange).toHaveBeenCalledTimes(1);
    expect(permissions.lacks('patch', 'serviceaccounts')).toBe(true);
  });

  it.each([
    [['patch secrets', 'create secrets'], []],
    [['create secrets'], ['patch secrets']],
    [['patch secrets'], ['create secrets']],
    [[], ['create secrets', 'patch secrets']],
  ])('of an apply: with the rights %j, %j are missing', async (allowed, missing) => {
    const { permissions } = world(...allowed);
    expect(await permissions.confirmMissing(right('apply', 'secrets'))).toBe(missing.length > 0);
    expect(permissions.missing).toEqual(missing);
  });
});

describe('a missing right', () => {
  it('is asked for again until it is there', async () => {
    const { permissions, rights, clock, onChange } = world();
    await permissions.confirmMissing(right('patch', 'secrets'));
    await clock.advance(60_000);
    expect(permissions.missing).toEqual(['patch secrets']);
    expect(onChange).toHaveBeenCalledTimes(1);
    rights.add('patch secrets');
    await clock.advance(15_000);
    expect(permissions.missing).toEqual([]);
    expect(onChange).toHaveBeenCalledTimes(2);
    expect(clock.pending).toBe(0);
  });
});
