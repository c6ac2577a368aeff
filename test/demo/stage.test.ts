import { expect, it } from 'vitest';
import { Stage, wrapped } from './stage.ts';

function shown(o: { isTTY: boolean; columns?: number }): { stage: Stage; text: () => string } {
  let text = '';
  const out = { ...o, write: (more: string) => (text += more) };
  return { stage: new Stage({ out, color: o.isTTY }), text: () => text };
}

it('is plain where it is no terminal: no escape codes, no returns, no line too long', async () => {
  const { stage, text } = shown({ isTTY: false });
  stage.title('name', 'words '.repeat(40));
  stage.step('a step');
  await stage.claim('it holds', () => 'a figure');
  await stage.claim('a claim of so many words that no room is left beside it for its figure', () => 'a long figure');
  expect(text()).not.toContain('\u001b');
  expect(text()).not.toContain('\r');
  expect(
    Math.max(
      ...text()
        .split('\n')
        .map(({ length }) => length),
    ),
  ).toBeLessThan(80);
  expect(text()).toContain('ok    it holds');
});

it('tells a claim that does not hold, and why, and goes on', async () => {
  const { stage, text } = shown({ isTTY: true, columns: 60 });
  await stage.claim('it holds', () => {
    throw new Error('it does not');
  });
  await stage.claim('another', () => '');
  expect(stage.broken).toEqual(['it holds']);
  expect(stage.held).toBe(1);
  expect(text()).toMatch(/✗.* it holds[^]*it does not[^]*✓.* another/);
});

it('wraps at words', () => {
  expect(wrapped('a bb ccc dddd', 6)).toEqual(['a bb', 'ccc', 'dddd']);
});
