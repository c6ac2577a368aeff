import * as z from 'zod';

import { matching, withRules } from './rule.ts';

// Everything here is strict: an unknown field may be a newer version's source, or a newer restriction of the session.
// Whoever cannot read it must not fall back to another identity (the resource is held).

const MAX_CHAINED_SECONDS = 3600; // https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html, role chaining

const roleArn = withRules(z.string().max(2048), [
  {
    ...matching('^arn:aws(-[a-z]+)*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$'),
    message: 'not the ARN of a role: arn:aws:iam::ACCOUNT:role/NAME has an account of 12 digits',
  },
]).describe('ARN of the role, of any partition. Quote it: an account may begin with zeros.');

const externalId = withRules(z.string().min(2).max(1224), [
  {
    ...matching('^[A-Za-z0-9_+=,.@:/-]*$'),
    message: 'an external ID has letters, digits and _+=,.@:/- only',
  },
]).describe("External ID that the role's trust policy asks for.");

const sessionName = withRules(z.string().min(2).max(64), [
  { ...matching('^[A-Za-z0-9_+=,.@-]*$'), message: 'a session name has letters, digits and _+=,.@- only' },
]).describe('Name of the session in CloudTrail. Absent: one that names the operator, always the same.');

const durationSeconds = z
  .int()
  .min(900)
  .max(43_200)
  .describe(
    "Length of the session in seconds, up to the role's own maximum; 3600 at most for every step after the first, and where the source is itself a role. " +
      'A token counts as good no longer than the session that asked for it, unless `refresh.outliveSession` is set. Absent: 3600.',
  );

const assumeRoleStep = z.strictObject({
  roleArn,
  externalId: externalId.exactOptional(),
  sessionName: sessionName.exactOptional(),
  durationSeconds: durationSeconds.exactOptional(),
});

type AssumeRoleStep = z.output<typeof assumeRoleStep>;

const assumeRoleChain = withRules(z.array(assumeRoleStep).max(3), [
  {
    cel: [1, 2]
      .map((i) => `(self.size() <= ${i} || !has(self[${i}].durationSeconds) || self[${i}].durationSeconds <= 3600)`)
      .join(' && '),
    holds: (self: AssumeRoleStep[]) =>
      self.slice(1).every((step) => (step.durationSeconds ?? MAX_CHAINED_SECONDS) <= MAX_CHAINED_SECONDS),
    message: 'durationSeconds of every step after the first is 3600 at most: AWS limits chained roles to an hour',
  },
])
  .meta({ 'x-kubernetes-list-type': 'atomic' })
  .describe('Roles assumed one after the other, starting from the source: 3 at most.');

const accessKeySecretRef = z
  .strictObject({
    name: withRules(z.string().min(1).max(253), [
      {
        ...matching('^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$'),
        message: 'not the name of a Secret: lower-case letters, digits, dashes and dots',
      },
    ]).describe("Name of the Secret; it must be among the chart's `credentialSecretNames`."),
  })
  .meta({ 'x-kubernetes-map-type': 'atomic' })
  .describe(
    "Secret in the operator's namespace with the keys AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary ones, AWS_SESSION_TOKEN.",
  );

const givenCredentials = withRules(
  z.strictObject({
    operatorIdentity: z
      .strictObject({})
      .describe("The operator's own identity: the default chain of the AWS SDK. Always `{}`.")
      .exactOptional(),
    accessKeySecretRef: accessKeySecretRef.exactOptional(),
    assumeRoleChain: assumeRoleChain.exactOptional(),
  }),
  [
    {
      cel: 'has(self.operatorIdentity) != has(self.accessKeySecretRef)',
      holds: (self) => (self.operatorIdentity === undefined) !== (self.accessKeySecretRef === undefined),
      message: 'give exactly one source: operatorIdentity or accessKeySecretRef',
    },
  ],
)
  // Else the API server would prune a newer version's source, and what is left would read as another identity.
  .meta({ 'x-kubernetes-preserve-unknown-fields': true })
  .describe(
    "AWS identity that asks for the tokens: exactly one source, and perhaps a chain of roles on top of it. Absent: the operator's own identity.",
  )
  .optional();

/**
 * `spec.credentials`: whose token it is. Its defaults are ours and not the API server's: what that stores stays beside what a
 * later apply gives, or where it gives nothing, and then there are two sources, or none.
 */
export const credentials = givenCredentials.transform((given) => ({
  assumeRoleChain: [],
  ...(given ?? { operatorIdentity: {} }),
}));
