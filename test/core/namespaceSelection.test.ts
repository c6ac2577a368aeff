import { describe, expect, it } from 'vitest';
import { whyNotSelected, type LabelRequirement, type NamespaceSelection } from '../../src/core/namespaceSelection.ts';
import { namespace } from './namespaceWorld.ts';

const expression = (requirement: LabelRequirement): NamespaceSelection => ({
  selector: { matchExpressions: [requirement] },
});

describe('whyNotSelected', () => {
  const team = namespace({ name: 'team-a', labels: { ecr: 'on', tier: 'gold' } });
  it.each<[string, NamespaceSelection, string | null]>([
    ['{} is all of them', {}, null],
    ['a name that matches', { names: ['team-*'] }, null],
    ['a name that does not', { names: ['shop-*'] }, 'no pattern of spec.namespaces.names matches: shop-*'],
    ['no name at all', { names: [] }, 'no pattern of spec.namespaces.names matches: '],
    ['exclude wins', { names: ['*'], exclude: ['team-a'] }, 'spec.namespaces.exclude has team-a'],
    ['a label', { selector: { matchLabels: { ecr: 'on' } } }, null],
    [
      'another value',
      { selector: { matchLabels: { ecr: 'off' } } },
      'spec.namespaces.selector wants the label ecr=off',
    ],
    ['In', expression({ key: 'ecr', operator: 'In', values: ['on'] }), null],
    ['NotIn, absent', expression({ key: 'none', operator: 'NotIn', values: ['off'] }), null],
    [
      'NotIn',
      expression({ key: 'ecr', operator: 'NotIn', values: ['on'] }),
      'spec.namespaces.selector wants the label ecr NotIn (on)',
    ],
    ['Exists', expression({ key: 'tier', operator: 'Exists' }), null],
    [
      'DoesNotExist',
      expression({ key: 'tier', operator: 'DoesNotExist' }),
      'spec.namespaces.selector wants the label tier DoesNotExist',
    ],
    [
      'a label key that every object has',
      expression({ key: 'constructor', operator: 'Exists' }),
      'spec.namespaces.selector wants the label constructor Exists',
    ],
    ['names and selector must both hold', { names: ['team-*'], selector: { matchLabels: { ecr: 'on' } } }, null],
  ])('%s', (_, selection, expected) => {
    expect(whyNotSelected(selection, team)).toBe(expected);
  });
  it('obeys the ignore annotation and a deletion', () => {
    expect(whyNotSelected({}, namespace({ ignored: true }))).toMatch(/ignore/);
    expect(whyNotSelected({}, namespace({ terminating: true }))).toMatch(/deleted/);
  });
});
