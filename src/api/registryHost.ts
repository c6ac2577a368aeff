import { matching, notMatching, type Rule } from './rule.ts';

/** A registry's host name, and where its tokens come from. */
export interface RegistryHost {
  readonly host: string; // as in image names: lower case, with its port if it has one
  readonly service: 'ecr' | 'ecr-public';
  readonly region: string;
  readonly account: string | null; // 12 digits as text, leading zeros kept; null where the name does not tell
  readonly partition: string; // of the region: aws, aws-cn, …
}

/**
 * Reads account and region from an ECR host; any other name (a CNAME, a mirror) needs `region`. A region that
 * contradicts the host is refused, as are forms that no image name has: scheme, path, capitals, blanks, `:443`.
 */
export function parseRegistryHost(host: string, region?: string): RegistryHost | { whyNot: string } {
  const broken =
    firstBroken(hostRules, host) ??
    (region === undefined ? null : firstBroken([regionSyntax], region)) ??
    firstBroken(regionRules, { host, ...(region !== undefined && { region }) });
  if (broken !== null) return { whyNot: broken };
  return readEcrHost(host) ?? readOtherHost(host, region);
}

function firstBroken<T>(rules: readonly Rule<T>[], self: T): string | null {
  return rules.find(({ holds }) => !holds(self))?.message ?? null;
}

const REGION = '[a-z]{2,5}(-[a-z]+){1,3}-[0-9]{1,2}';
const PRIVATE_SUFFIX =
  '(amazonaws\\.com|amazonaws\\.com\\.cn|amazonaws\\.eu|on\\.aws|on\\.amazonwebservices\\.com\\.cn|' +
  'c2s\\.ic\\.gov|sc2s\\.sgov\\.gov|cloud\\.adc-e\\.uk|csp\\.hci\\.ic\\.gov)';
// https://github.com/awslabs/amazon-ecr-credential-helper, ecr-login/api/client.go, with the region's syntax narrowed.
const PRIVATE_HOST = `^([0-9]{12})\\.dkr[.-]ecr(-fips)?\\.(${REGION})\\.${PRIVATE_SUFFIX}$`;
const PUBLIC_HOST = '^(public\\.ecr\\.aws|ecr-public\\.aws\\.com)$';
const PUBLIC_REGION = 'us-east-1'; // GetAuthorizationToken of ECR Public is asked there alone

const LABEL = '[a-z0-9]([a-z0-9-]*[a-z0-9])?';
const PORT = '([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])';
const HOST = `${LABEL}(\\.${LABEL})*(:${PORT})?`;
// No dot and no port: in an image name that is a user of Docker Hub.
const QUALIFIED_HOST = `^(localhost|${LABEL}(\\.${LABEL})+)(:${PORT})?$|^${LABEL}:${PORT}$`;

// A name that wants to be one of ECR. With a suffix that we do not know it may be a new partition's: it passes, and
// needs a region.
const LIKE_ECR = '^[0-9]+\\.dkr[.-]ecr(-fips)?\\.[a-z0-9.-]+$';
const ACCOUNT = '^[0-9]{12}\\.';
const AWS_SUFFIX = `\\.${PRIVATE_SUFFIX}$`;

/** What `host` must be by itself. Each mistake is told alone: the general rule speaks only of what no other names. */
export const hostRules: readonly Rule<string>[] = [
  { ...notMatching('://'), message: 'leave out the scheme: host is a bare name, as at the start of an image name' },
  {
    ...notMatching('^/|[^:/]/|:/([^/]|$)'),
    message: 'leave out the path: a token serves every repository of the host',
  },
  { ...notMatching('[A-Z]'), message: 'write the host in lower case, as in image names' },
  { ...notMatching('[ \\t\\r\\n]'), message: 'leave out the blanks' },
  { ...notMatching(':443$'), message: 'leave out :443: image names do not carry it, and hosts are compared as text' },
  {
    ...matching(`[A-Z/ \\t\\r\\n]|^${HOST}$`),
    message: 'host must be a DNS name or an IPv4 address, with :PORT if it has one; no patterns',
  },
  {
    ...matching(`[^a-z0-9-]|^localhost$`),
    message: 'a host without a dot needs a port: in an image name it would be a user of Docker Hub',
  },
  {
    cel: `!(${brokenEcrName('self')})`,
    holds: (self) => !isBrokenEcrName(self),
    message: 'not a name of ECR: ACCOUNT.dkr.ecr.REGION.amazonaws.com has an account of 12 digits and a valid region',
  },
];

function brokenEcrName(text: string): string {
  const matches = (pattern: string): string => `${text}.matches(r'${pattern}')`;
  return `${matches(LIKE_ECR)} && (!${matches(ACCOUNT)} || ${matches(AWS_SUFFIX)} && !${matches(PRIVATE_HOST)})`;
}

const expressions = {
  likeEcr: new RegExp(LIKE_ECR),
  account: new RegExp(ACCOUNT),
  awsSuffix: new RegExp(AWS_SUFFIX),
  privateHost: new RegExp(PRIVATE_HOST),
  publicHost: new RegExp(PUBLIC_HOST),
  qualifiedHost: new RegExp(QUALIFIED_HOST),
};

function isBrokenEcrName(text: string): boolean {
  const { likeEcr, account, awsSuffix, privateHost } = expressions;
  return likeEcr.test(text) && (!account.test(text) || (awsSuffix.test(text) && !privateHost.test(text)));
}

/** A region's syntax. The SDK resolves any text, so that a mistyped region would look like a network fault. */
export const regionSyntax: Rule<string> = {
  ...matching(`^${REGION}$`),
  message: 'not a region of AWS: those look like eu-west-1',
};

type HostAndRegion = { readonly host: string; readonly region?: string };

/** What `region` must be beside a host. A host that is wrong by itself is told by its own rules alone. */
export const regionRules: readonly Rule<HostAndRegion>[] = [
  {
    cel:
      `has(self.region) || self.host.matches(r'${PRIVATE_HOST}') || self.host.matches(r'${PUBLIC_HOST}') || ` +
      `!self.host.matches(r'${QUALIFIED_HOST}') || self.host.endsWith(':443') || ${brokenEcrName('self.host')}`,
    holds: ({ host, region }) => region !== undefined || !needsRegion(host),
    message: 'give the region: the host is not a name of ECR that tells it',
    field: 'region',
  },
  {
    cel:
      `!has(self.region) || (self.host.matches(r'${PUBLIC_HOST}') ? self.region == '${PUBLIC_REGION}' : ` +
      `!self.host.matches(r'${PRIVATE_HOST}') || self.host.contains('.' + self.region + '.'))`,
    holds: ({ host, region }) => region === undefined || (readEcrHost(host)?.region ?? region) === region,
    message: 'the region contradicts the host: leave it out, the host tells it',
    field: 'region',
  },
];

function needsRegion(host: string): boolean {
  const isWellFormed = expressions.qualifiedHost.test(host) && !host.endsWith(':443') && !isBrokenEcrName(host);
  return isWellFormed && readEcrHost(host) === null;
}

function readEcrHost(host: string): RegistryHost | null {
  if (expressions.publicHost.test(host)) {
    return { host, service: 'ecr-public', region: PUBLIC_REGION, account: null, partition: 'aws' };
  }
  const [, account, , region] = expressions.privateHost.exec(host) ?? [];
  if (account === undefined || region === undefined) return null;
  return { host, service: 'ecr', region, account, partition: partitionOf(region) };
}

function readOtherHost(host: string, region: string | undefined): RegistryHost | { whyNot: string } {
  if (region === undefined) return { whyNot: 'give the region' }; // the rules have said so before
  return { host, service: 'ecr', region, account: null, partition: partitionOf(region) };
}

const PARTITION_PREFIXES: readonly (readonly [prefix: RegExp, partition: string])[] = [
  [/^cn-/, 'aws-cn'],
  [/^us-gov-/, 'aws-us-gov'],
  [/^[a-z]+-iso-/, 'aws-iso'],
  [/^[a-z]+-isob-/, 'aws-iso-b'],
  [/^[a-z]+-isoe-/, 'aws-iso-e'],
  [/^[a-z]+-isof-/, 'aws-iso-f'],
  [/^eusc-/, 'aws-eusc'],
];

function partitionOf(region: string): string {
  return PARTITION_PREFIXES.find(([prefix]) => prefix.test(region))?.[1] ?? 'aws';
}
