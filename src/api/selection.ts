import * as z from 'zod';

import { matching, withRules } from './rule.ts';

const glob = withRules(z.string().min(1).max(253), [
  {
    ...matching('^[a-z0-9.*-]*$'),
    message: 'a pattern has lower-case letters, digits, dashes, dots and * only',
  },
]);

const globs = z.array(glob).max(100).meta({ 'x-kubernetes-list-type': 'atomic' });

const labelValue = withRules(z.string().max(63), [
  {
    ...matching('^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$'),
    message: 'not a label value: letters, digits and -_. between them',
  },
]);

const labelKey = withRules(z.string().min(1).max(317), [
  {
    ...matching('^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$'),
    message: 'not a label key: [PREFIX/]NAME',
  },
]).describe('Key of the label.');

const requirement = withRules(
  z.object({
    key: labelKey,
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).describe('How the label is compared with the values.'),
    values: z
      .array(labelValue)
      .max(50)
      .meta({ 'x-kubernetes-list-type': 'atomic' })
      .describe('Values for In and NotIn; none for Exists and DoesNotExist.')
      .exactOptional(),
  }),
  [
    {
      cel: "!(self.operator in ['In', 'NotIn']) || has(self.values) && self.values.size() > 0",
      holds: (self) => !needsValues(self.operator) || (self.values?.length ?? 0) > 0,
      message: 'In and NotIn need values',
      field: 'values',
    },
    {
      cel: "self.operator in ['In', 'NotIn'] || !has(self.values) || self.values.size() == 0",
      holds: (self) => needsValues(self.operator) || (self.values?.length ?? 0) === 0,
      message: 'Exists and DoesNotExist take no values',
      field: 'values',
    },
  ],
);

function needsValues(operator: string): boolean {
  return operator === 'In' || operator === 'NotIn';
}

const selector = z
  .object({
    matchLabels: z
      .record(z.string(), labelValue)
      .meta({ maxProperties: 50 })
      .describe('Labels that must have these values.')
      .exactOptional(),
    matchExpressions: z
      .array(requirement)
      .max(50)
      .meta({ 'x-kubernetes-list-type': 'atomic' })
      .describe('Demands on labels; all must hold. As in Kubernetes, NotIn holds where the label is absent.')
      .exactOptional(),
  })
  .meta({ 'x-kubernetes-map-type': 'atomic' });

/** `spec.namespaces`: all parts that are given must hold; `{}` is every namespace. */
export const namespaces = z
  .object({
    selector: selector.describe('Labels of the namespaces. Absent: any.').exactOptional(),
    names: globs
      .min(1)
      .describe('Names of the namespaces; `*` stands for any number of characters. Absent: any.')
      .exactOptional(),
    exclude: globs
      .default([])
      .describe('Names that are never served; these win. `*` stands for any number of characters.'),
  })
  .describe('Namespaces that get the pull secret. Required; `{}` is all of them.');

/** `spec.serviceAccounts`: where the entry goes. */
export const serviceAccounts = z
  .object({
    names: globs
      .default(['default'])
      .describe(
        'ServiceAccounts that get the entry in `imagePullSecrets`; `*` stands for any number of characters. `[]`: the Secret alone is kept.',
      ),
    exclude: globs
      .default([])
      .describe('ServiceAccounts that never get the entry; these win. `*` stands for any number of characters.'),
  })
  .prefault({})
  .describe('ServiceAccounts in these namespaces that get the entry.');
