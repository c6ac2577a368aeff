import * as z from 'zod';

// Wide limits: a status that the API server refuses would tell nobody anything.
const message = z.string().max(32_768);
// Strings: kubectl prints future dates of type date as <invalid>.
const time = z.string().max(64);

/** As metav1.Condition. */
export const condition = z.object({
  type: z.string().min(1).max(316).describe('Type of the condition, e.g. Ready.'),
  status: z.enum(['True', 'False', 'Unknown']).describe('Whether the condition holds.'),
  reason: z.string().min(1).max(1024).describe('Reason for the status, in one word.'),
  message: message.describe('The reason for people, and what they can do.'),
  lastTransitionTime: z.string().meta({ format: 'date-time' }).describe('When the status last changed.'),
  observedGeneration: z.int().min(0).describe('Generation of the spec that this was said of.').exactOptional(),
});

const registryStatus = z.object({
  host: z.string().max(259).describe('Host of the registry.'),
  region: z.string().max(32).describe('Region whose token opens it.').exactOptional(),
  expiresAt: time.describe('End of life of the published token.').exactOptional(),
  lastRefreshTime: time.describe('When the published token was issued.').exactOptional(),
  nextRefreshTime: time.describe('When the next token will be asked for.').exactOptional(),
  message: message.describe('What went wrong or is worth knowing.').exactOptional(),
});

const failure = z.object({
  namespace: z.string().max(63).describe('Name of the namespace.'),
  message: message.describe('What is in the way, and what to do.'),
});

/** `status`: written by the operator alone, through the status subresource. */
export const clusterEcrPullSecretStatus = z
  .object({
    observedGeneration: z.int().min(0).describe('Generation of the spec that this status is about.').exactOptional(),
    conditions: z
      .array(condition)
      .max(16)
      .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] })
      .describe('Ready and Refreshed always; Reconciling, Stalled, Blocked and Unguarded only while they hold.')
      .exactOptional(),
    registryCount: z.int().min(0).describe('Number of registries.').exactOptional(),
    namespacesReady: z
      .string()
      .max(32)
      .describe('Namespaces that are served, of those that match: "512/513".')
      .exactOptional(),
    expiresAt: time.describe('Earliest end of life of the published tokens.').exactOptional(),
    nextRefreshTime: time.describe('When the next token will be asked for.').exactOptional(),
    registries: z
      .array(registryStatus)
      .max(100)
      .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['host'] })
      .describe('Each registry with its token; while the spec is refused, those of the last good one.')
      .exactOptional(),
    failures: z
      .array(failure)
      .max(10)
      .meta({ 'x-kubernetes-list-type': 'atomic' })
      .describe('The first ten namespaces that could not be served, and why.')
      .exactOptional(),
  })
  .describe('What is: written by the operator.');
