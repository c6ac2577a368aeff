import * as z from 'zod';

import { credentials } from './credentials.ts';
import { kind, plural } from './groupVersion.ts';
import { customResourceDefinition } from './customResourceDefinition.ts';
import { registries } from './registries.ts';
import { matching, withRules } from './rule.ts';
import { namespaces, serviceAccounts } from './selection.ts';
import { clusterEcrPullSecretStatus, type condition } from './status.ts';
import { describeIssues, type FieldError } from './validationMessage.ts';

const schedule = withRules(z.string().max(100), [
  {
    ...matching('^[A-Za-z0-9*,/-]+( +[A-Za-z0-9*,/-]+){4}$'),
    message: 'a schedule has five fields: minute, hour, day of month, month, day of week; there are no seconds',
  },
]).describe(
  'Cron schedule of five fields. A tick only brings a refresh forward: tokens are always refreshed before they end, and at most once in a 24th of their life.',
);

const timeZone = withRules(z.string().min(1).max(64), [
  { ...matching('^[A-Za-z][A-Za-z0-9_+/-]*$'), message: 'not a time zone: those look like Europe/Paris' },
]).describe('Time zone of the schedule, by its IANA name. Absent: UTC.');

const refresh = z
  .object({
    schedule: schedule.exactOptional(),
    timeZone: timeZone.exactOptional(),
    outliveSession: z
      .boolean()
      .default(false)
      .describe('Trust a token to its stated end, even where the session that asked for it ends earlier.'),
  })
  .prefault({})
  .describe('When tokens are refreshed. Absent: at half of their life.');

const verification = z
  .object({
    mode: z
      .enum(['IfReachable', 'Required', 'Disabled'])
      .default('IfReachable')
      .describe(
        'IfReachable: a token that the registry refuses is held back while the old one is good. Required: nothing is published before the registry has accepted it. Disabled: no check.',
      ),
  })
  .prefault({})
  .describe('Whether the operator tries a token at the registry before it publishes it.');

/** The one schema of `spec`: types, defaults and the CRD come from it. */
export const clusterEcrPullSecretSpec = z
  .object({
    suspend: z
      .boolean()
      .default(false)
      .describe('Nothing is added, refreshed or removed for this resource; what is published stays.'),
    registries,
    credentials,
    namespaces,
    serviceAccounts,
    refresh,
    verification,
  })
  .describe('What is wanted: which registries, by whose identity, in which namespaces.');

/** A spec with all its defaults. */
export type Spec = z.output<typeof clusterEcrPullSecretSpec>;
export type Status = z.output<typeof clusterEcrPullSecretStatus>;
export type Condition = z.output<typeof condition>;

export interface ClusterECRPullSecret {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly generation: number;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
    readonly creationTimestamp: string;
  };
  readonly spec: unknown; // read by parseSpec alone: a newer CRD may have let anything in
  readonly status?: Status;
}

/**
 * Reads a spec as it came from the API server. Unknown fields are passed over, since a newer CRD may have some; under
 * `credentials` they are errors. Fields and messages are those of the API server.
 */
export function parseSpec(spec: unknown): { spec: Spec } | { errors: FieldError[] } {
  const parsed = clusterEcrPullSecretSpec.safeParse(spec, { reportInput: true });
  return parsed.success ? { spec: parsed.data } : { errors: describeIssues('spec', parsed.error.issues) };
}

/** The CustomResourceDefinition, as it is applied. */
export function crd(): object {
  return customResourceDefinition({
    scope: 'Cluster',
    names: {
      kind,
      plural,
      listKind: `${kind}List`,
      singular: 'clusterecrpullsecret',
      shortNames: ['cecr'],
      categories: ['ecr-pull-secrets'],
    },
    description:
      'ClusterECRPullSecret keeps a pull secret for Amazon ECR in every selected namespace, and its entry in the ServiceAccounts there.',
    spec: clusterEcrPullSecretSpec,
    status: clusterEcrPullSecretStatus,
  });
}
