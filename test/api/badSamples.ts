/** The smallest spec that is accepted. */
export const goodSpec = { registries: [{ host: 'public.ecr.aws' }], namespaces: {} } as const;

const ROLE = { roleArn: 'arn:aws:iam::123456789012:role/pull' } as const;

/**
 * Specs that are refused, each for one reason. The table goes through `parseSpec` (here) and through a real API server
 * (test/cluster): both must blame `field`, and say `message`.
 */
export const badSamples: readonly BadSample[] = [
  ...hosts([
    ['a scheme', 'https://123456789012.dkr.ecr.eu-west-1.amazonaws.com', 'leave out the scheme'],
    ['another scheme', 'oci://public.ecr.aws', 'leave out the scheme'],
    ['a trailing slash', '123456789012.dkr.ecr.eu-west-1.amazonaws.com/', 'leave out the path'],
    ['a repository', '123456789012.dkr.ecr.eu-west-1.amazonaws.com/team', 'leave out the path'],
    ['a slash in front', '//public.ecr.aws', 'leave out the path'],
    ['half a scheme', 'https:/public.ecr.aws', 'leave out the path'],
    ['capitals', '123456789012.dkr.ecr.EU-WEST-1.amazonaws.com', 'in lower case'],
    ['a blank at the end', 'public.ecr.aws ', 'leave out the blanks'],
    ['a line break', 'public.ecr.aws\n', 'leave out the blanks'],
    ['the port that image names do not carry', '123456789012.dkr.ecr.eu-west-1.amazonaws.com:443', 'leave out :443'],
    ['a pattern', '*.dkr.ecr.eu-west-1.amazonaws.com', 'host must be a DNS name'],
    ['a port that does not exist', 'registry.corp.example:65536', 'host must be a DNS name'],
    ['no port after the colon', 'registry.corp.example:', 'host must be a DNS name'],
    ['a dot at the end', 'registry.corp.example.', 'host must be a DNS name'],
    ['a user', 'aws@registry.corp.example', 'host must be a DNS name'],
    ['an underscore', 'my_registry.example', 'host must be a DNS name'],
    ['a name that Docker takes for a user', 'registry', 'a host without a dot needs a port'],
    ['an account of 11 digits', '12345678901.dkr.ecr.eu-west-1.amazonaws.com', 'not a name of ECR'],
    ['an account of 13 digits', '1234567890123.dkr.ecr.eu-west-1.amazonaws.com', 'not a name of ECR'],
    ['a region that is none', '123456789012.dkr.ecr.nowhere.amazonaws.com', 'not a name of ECR'],
    ['no text at all', '', 'should be at least 1 chars long'],
    ['more than a host name can have', `${'a'.repeat(260)}.example`, 'may not be more than 259'],
  ]),
  ...regions([
    ['a custom host without region', { host: 'registry.corp.example' }, 'give the region'],
    ['an IP address without region', { host: '10.0.0.1:5000' }, 'give the region'],
    [
      'an ECR host in the middle of another',
      { host: '123456789012.dkr.ecr.eu-west-1.amazonaws.com.fake.example.com' },
      'give the region',
    ],
    ['a partition that is not known', { host: '123456789012.dkr.ecr.xx-new-1.amazonaws.example' }, 'give the region'],
    ['text that is no region', { host: 'registry.corp.example', region: 'Frankfurt' }, 'not a region of AWS'],
    ['an availability zone', { host: 'registry.corp.example', region: 'eu-west-1a' }, 'not a region of AWS'],
    [
      'another region than the host',
      { host: '123456789012.dkr.ecr.eu-west-1.amazonaws.com', region: 'us-east-1' },
      'the region contradicts the host',
    ],
    [
      'a region that the region of the host begins with',
      { host: '123456789012.dkr.ecr.eu-west-12.amazonaws.com', region: 'eu-west-1' },
      'the region contradicts the host',
    ],
    [
      'ECR Public outside us-east-1',
      { host: 'public.ecr.aws', region: 'eu-west-1' },
      'the region contradicts the host',
    ],
  ]),
  bad('no registries', { registries: [] }, 'spec.registries', 'should have at least 1 items'),
  bad('registries left out', { registries: undefined }, 'spec.registries', 'Required value'),
  bad(
    'too many registries',
    { registries: Array.from({ length: 101 }, (_, i) => ({ host: `r${i}.example`, region: 'eu-west-1' })) },
    'spec.registries',
    'must have at most 100 items',
  ),
  bad(
    'a host twice',
    { registries: [{ host: 'public.ecr.aws' }, { host: 'public.ecr.aws', region: 'us-east-1' }] },
    'spec.registries[1]',
    'Duplicate value',
  ),
  bad('a registry that is a text', { registries: ['public.ecr.aws'] }, 'spec.registries[0]', 'must be of type object'),
  bad('suspend as a text', { suspend: 'yes' }, 'spec.suspend', 'must be of type boolean'),

  bad('no source', { credentials: {} }, 'spec.credentials', 'give exactly one source'),
  bad(
    'a chain without a source, as an old schema would leave it',
    { credentials: { assumeRoleChain: [{ roleArn: 'arn:aws:iam::123456789012:role/pull' }] } },
    'spec.credentials',
    'give exactly one source',
  ),
  bad(
    'two sources',
    { credentials: { operatorIdentity: {}, accessKeySecretRef: { name: 'aws-credentials' } } },
    'spec.credentials',
    'give exactly one source',
  ),
  bad(
    'a Secret without name',
    { credentials: { accessKeySecretRef: {} } },
    'spec.credentials.accessKeySecretRef.name',
    'Required value',
  ),
  bad(
    'a Secret of another namespace',
    { credentials: { accessKeySecretRef: { name: 'default/aws-credentials' } } },
    'spec.credentials.accessKeySecretRef.name',
    'not the name of a Secret',
  ),
  ...steps([
    ['a role name instead of its ARN', { roleArn: 'pull' }, 'roleArn', 'not the ARN of a role'],
    ['a user', { roleArn: 'arn:aws:iam::123456789012:user/pull' }, 'roleArn', 'not the ARN of a role'],
    [
      'an account without its zero',
      { roleArn: 'arn:aws:iam::12345678901:role/pull' },
      'roleArn',
      'not the ARN of a role',
    ],
    ['an account as in octal', { roleArn: 'arn:aws:iam::0o123456789:role/pull' }, 'roleArn', 'not the ARN of a role'],
    ['no role', { externalId: 'corp' }, 'roleArn', 'Required value'],
    ['a short external ID', { ...ROLE, externalId: 'x' }, 'externalId', 'should be at least 2 chars long'],
    ['a long external ID', { ...ROLE, externalId: 'x'.repeat(1225) }, 'externalId', 'may not be more than 1224'],
    ['a blank in the external ID', { ...ROLE, externalId: 'my corp' }, 'externalId', 'an external ID has letters'],
    ['a slash in the session name', { ...ROLE, sessionName: 'a/b' }, 'sessionName', 'a session name has letters'],
    ['a long session name', { ...ROLE, sessionName: 'x'.repeat(65) }, 'sessionName', 'may not be more than 64'],
    ['a short session', { ...ROLE, durationSeconds: 899 }, 'durationSeconds', 'should be greater than or equal to 900'],
    [
      'a long session',
      { ...ROLE, durationSeconds: 43_201 },
      'durationSeconds',
      'should be less than or equal to 43200',
    ],
    ['a session in text', { ...ROLE, durationSeconds: '1h' }, 'durationSeconds', 'must be of type integer'],
  ]),
  bad(
    'a chained role for longer than an hour',
    { credentials: { operatorIdentity: {}, assumeRoleChain: [ROLE, { ...ROLE, durationSeconds: 3601 }] } },
    'spec.credentials.assumeRoleChain',
    'AWS limits chained roles to an hour',
  ),
  bad(
    'the third role for longer than an hour',
    { credentials: { operatorIdentity: {}, assumeRoleChain: [ROLE, ROLE, { ...ROLE, durationSeconds: 7200 }] } },
    'spec.credentials.assumeRoleChain',
    'AWS limits chained roles to an hour',
  ),
  bad(
    'a chain of four',
    { credentials: { operatorIdentity: {}, assumeRoleChain: [ROLE, ROLE, ROLE, ROLE] } },
    'spec.credentials.assumeRoleChain',
    'must have at most 3 items',
  ),

  bad('namespaces left out', { namespaces: undefined }, 'spec.namespaces', 'Required value'),
  bad('no name at all', { namespaces: { names: [] } }, 'spec.namespaces.names', 'should have at least 1 items'),
  bad(
    'a pattern with a question mark',
    { namespaces: { names: ['team-?'] } },
    'spec.namespaces.names[0]',
    'a pattern has lower-case letters',
  ),
  bad(
    'an empty pattern',
    { namespaces: { exclude: [''] } },
    'spec.namespaces.exclude[0]',
    'should be at least 1 chars long',
  ),
  bad(
    'a pattern in capitals',
    { namespaces: { exclude: ['Kube-*'] } },
    'spec.namespaces.exclude[0]',
    'a pattern has lower-case letters',
  ),
  ...requirements([
    ['In without values', { key: 'ecr', operator: 'In' }, 'values', 'In and NotIn need values'],
    ['NotIn with an empty list', { key: 'ecr', operator: 'NotIn', values: [] }, 'values', 'In and NotIn need values'],
    ['Exists with values', { key: 'ecr', operator: 'Exists', values: ['on'] }, 'values', 'take no values'],
    ['DoesNotExist with values', { key: 'ecr', operator: 'DoesNotExist', values: ['x'] }, 'values', 'take no values'],
    [
      'an operator of field selectors',
      { key: 'ecr', operator: 'Equals', values: ['x'] },
      'operator',
      'Unsupported value',
    ],
    ['a label value with a blank', { key: 'ecr', operator: 'In', values: ['a b'] }, 'values[0]', 'not a label value'],
    ['a label key with two slashes', { key: 'a/b/c', operator: 'Exists' }, 'key', 'not a label key'],
    ['no key', { operator: 'Exists' }, 'key', 'Required value'],
  ]),
  bad(
    'a label value that ends in a dash',
    { namespaces: { selector: { matchLabels: { team: 'a-' } } } },
    'spec.namespaces.selector.matchLabels[team]',
    'not a label value',
  ),
  bad(
    'a label value that is no text, as YAML makes of `on`',
    { namespaces: { selector: { matchLabels: { ecr: true } } } },
    'spec.namespaces.selector.matchLabels.ecr',
    'must be of type string',
  ),
  bad(
    'a ServiceAccount with a slash',
    { serviceAccounts: { names: ['team/builder'] } },
    'spec.serviceAccounts.names[0]',
    'a pattern has lower-case letters',
  ),

  ...schedules([
    ['seconds in front', '* * * * * *'],
    ['four fields', '0 */4 * *'],
    ['a macro', '@hourly'],
    ['a blank in front', ' 0 */4 * * *'],
    ['nothing', ''],
    ['characters of other dialects', '0 0 L * ?'],
  ]),
  bad('a time zone as an offset', { refresh: { timeZone: '+02:00' } }, 'spec.refresh.timeZone', 'not a time zone'),
  bad('an unknown mode', { verification: { mode: 'Never' } }, 'spec.verification.mode', 'Unsupported value'),
  bad('a mode in lower case', { verification: { mode: 'required' } }, 'spec.verification.mode', 'Unsupported value'),
];

export interface BadSample {
  readonly name: string;
  readonly spec: Readonly<Record<string, unknown>>;
  readonly field: string;
  readonly message: string; // a part of it
}

function bad(name: string, part: Record<string, unknown>, field: string, message: string): BadSample {
  return { name, spec: { ...goodSpec, ...part }, field, message };
}

function hosts(rows: [name: string, host: string, message: string][]): BadSample[] {
  return rows.map(([name, host, message]) =>
    bad(`a host with ${name}`, { registries: [{ host }] }, 'spec.registries[0].host', message),
  );
}

function regions(rows: [name: string, registry: Record<string, unknown>, message: string][]): BadSample[] {
  return rows.map(([name, registry, message]) =>
    bad(name, { registries: [registry] }, 'spec.registries[0].region', message),
  );
}

function steps(rows: [name: string, step: Record<string, unknown>, field: string, message: string][]): BadSample[] {
  return rows.map(([name, step, field, message]) =>
    bad(
      `a role with ${name}`,
      { credentials: { operatorIdentity: {}, assumeRoleChain: [step] } },
      `spec.credentials.assumeRoleChain[0].${field}`,
      message,
    ),
  );
}

function requirements(
  rows: [name: string, item: Record<string, unknown>, field: string, message: string][],
): BadSample[] {
  return rows.map(([name, item, field, message]) =>
    bad(
      name,
      { namespaces: { selector: { matchExpressions: [item] } } },
      `spec.namespaces.selector.matchExpressions[0].${field}`,
      message,
    ),
  );
}

function schedules(rows: [name: string, schedule: string][]): BadSample[] {
  return rows.map(([name, schedule]) =>
    bad(`a schedule with ${name}`, { refresh: { schedule } }, 'spec.refresh.schedule', 'a schedule has five fields'),
  );
}
