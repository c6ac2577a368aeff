import * as z from 'zod';

import { hostRules, regionRules, regionSyntax } from './registryHost.ts';
import { withRules } from './rule.ts';

const host = withRules(z.string().min(1).max(259), hostRules).describe(
  'Host name as at the start of image names: lower case, with its port if it has one, without scheme and path. ' +
    'An ECR host (all partitions, FIPS, dual-stack, ECR Public) tells its region; any other name (a CNAME, a mirror) needs `region`.',
);

const region = withRules(z.string().max(32), [regionSyntax]).describe(
  'AWS region whose token opens this host. Required where the host is no name of ECR; else left out.',
);

const registry = withRules(z.object({ host, region: region.exactOptional() }), regionRules);

/** `spec.registries`: the hosts that get an entry in the pull secret, in no particular order. */
export const registries = z
  .array(registry)
  .min(1)
  .max(100)
  .superRefine((list, context) => {
    for (const [index, { host }] of list.entries()) {
      if (list.findIndex((other) => other.host === host) < index) {
        const message = `Duplicate value: ${JSON.stringify(host)}: name each host once`;
        context.addIssue({ code: 'custom', path: [index], message });
      }
    }
  })
  .meta({
    // This, not a rule, is the twin of the refinement: the API server refuses duplicate keys.
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': ['host'],
  })
  .describe('Registries that get an entry in the pull secret: 1 to 100, each host once.');
