import { expect, it } from 'vitest';
import { Patience } from '../../src/controller/patience.ts';
import { FakeClock } from '../fakeClock.ts';

function patience() {
  const clock = new FakeClock();
  return { clock, patience: new Patience(clock) };
}

it('lets the first failures pass, and then five seconds between two', async () => {
  const { clock, patience: it } = patience();
  it.failed('team');
  it.failed('team');
  expect(it.leftMs('team', {})).toBe(0);
  it.failed('team');
  expect(it.leftMs('team', {})).toBe(5_000);
  await clock.advance(5_000);
  expect(it.leftMs('team', {})).toBe(0);
});

it('leaves one that is gone alone while the watch shows it as it was, and not for ever', async () => {
  const { clock, patience: it } = patience();
  const shown = { name: 'team' };
  it.gone('team', shown);
  expect(it.leftMs('team', shown)).toBe(45_000);
  expect(it.leftMs('team', { name: 'team' })).toBe(0);
  await clock.advance(45_000);
  expect(it.leftMs('team', shown)).toBe(0);
});

it('has nothing to wait for where the watch knows already that it is gone: the next of that name is another', () => {
  const { patience: it } = patience();
  it.gone('team', undefined);
  expect(it.leftMs('team', { name: 'team' })).toBe(0);
});
