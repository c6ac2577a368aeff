import { constantFrom, assert, property, string } from 'fast-check';
import { describe, expect, it } from 'vitest';

import { parseRegistryHost } from '../../src/api/registryHost.ts';

it.each([
  // Those of the tests of https://github.com/awslabs/amazon-ecr-credential-helper, and each partition.
  ['standard', '123456789012.dkr.ecr.us-west-2.amazonaws.com', 'us-west-2', 'aws'],
  ['of two digits', '123456789012.dkr.ecr.ap-southeast-12.amazonaws.com', 'ap-southeast-12', 'aws'],
  ['FIPS', '123456789012.dkr.ecr-fips.us-east-1.amazonaws.com', 'us-east-1', 'aws'],
  ['GovCloud', '123456789012.dkr.ecr.us-gov-east-1.amazonaws.com', 'us-gov-east-1', 'aws-us-gov'],
  ['GovCloud FIPS', '123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com', 'us-gov-west-1', 'aws-us-gov'],
  ['dual-stack', '123456789012.dkr-ecr.us-west-2.on.aws', 'us-west-2', 'aws'],
  ['dual-stack FIPS', '123456789012.dkr-ecr-fips.us-west-2.on.aws', 'us-west-2', 'aws'],
  ['China', '123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn', 'cn-north-1', 'aws-cn'],
  ['China dual-stack', '123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn', 'cn-north-1', 'aws-cn'],
  [
    'China dual-stack with a dot',
    '123456789012.dkr.ecr.cn-northwest-1.on.amazonwebservices.com.cn',
    'cn-northwest-1',
    'aws-cn',
  ],
  ['iso', '123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov', 'us-iso-east-1', 'aws-iso'],
  ['isob', '123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov', 'us-isob-east-1', 'aws-iso-b'],
  ['isoe', '123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk', 'eu-isoe-west-1', 'aws-iso-e'],
  ['isof', '123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov', 'us-isof-south-1', 'aws-iso-f'],
  ['European sovereign', '123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu', 'eusc-de-east-1', 'aws-eusc'],
])('%s: account, region and partition are in the name', (_, host, region, partition) => {
  const expected = { host, service: 'ecr', region, account: '123456789012', partition };
  expect(parseRegistryHost(host)).toEqual(expected);
  expect(parseRegistryHost(host, region)).toEqual(expected);
  expect(parseRegistryHost(host, 'eu-central-1')).toEqual({
    whyNot: 'the region contradicts the host: leave it out, the host tells it',
  });
});

it('an account keeps its leading zeros', () => {
  expect(parseRegistryHost('012345678901.dkr.ecr.eu-west-1.amazonaws.com')).toMatchObject({ account: '012345678901' });
});

it.each(['public.ecr.aws', 'ecr-public.aws.com'])("%s: ECR Public's tokens come from us-east-1", (host) => {
  const expected = { host, service: 'ecr-public', region: 'us-east-1', account: null, partition: 'aws' };
  expect(parseRegistryHost(host)).toEqual(expected);
  expect(parseRegistryHost(host, 'us-east-1')).toEqual(expected);
  expect(parseRegistryHost(host, 'us-west-2')).toHaveProperty('whyNot');
});

it.each([
  ['registry.corp.example', 'us-east-1', 'aws'],
  ['registry.corp.example:5000', 'cn-north-1', 'aws-cn'],
  ['localhost:5000', 'us-gov-west-1', 'aws-us-gov'],
  ['localhost', 'eu-west-1', 'aws'],
  ['10.0.0.1', 'eusc-de-east-1', 'aws-eusc'],
  ['constructor.example', 'eu-west-1', 'aws'],
  ['123456789012.dkr.ecr.eu-west-1.amazonaws.com:8443', 'eu-west-1', 'aws'],
  ['123456789012.dkr.ecr.xx-new-1.amazonaws.example', 'xx-new-1', 'aws'],
  ['vpce-1.dkr.ecr.eu-west-1.vpce.amazonaws.com', 'eu-west-1', 'aws'],
])('%s is any other name: it needs a region', (host, region, partition) => {
  expect(parseRegistryHost(host, region)).toEqual({ host, service: 'ecr', region, account: null, partition });
  expect(parseRegistryHost(host)).toEqual({ whyNot: expect.stringContaining('give the region') as string });
});

describe('refused', () => {
  it.each([
    ['https://public.ecr.aws', 'scheme'],
    ['public.ecr.aws/', 'path'],
    ['public.ecr.aws/team', 'path'],
    ['Public.ecr.aws', 'lower case'],
    [' public.ecr.aws', 'blanks'],
    ['public.ecr.aws:443', ':443'],
    ['*.dkr.ecr.eu-west-1.amazonaws.com', 'DNS name'],
    ['', 'DNS name'],
    ['registry', 'without a dot'],
    ['__proto__', 'DNS name'],
    ['constructor', 'without a dot'],
    ['1.dkr.ecr.eu-west-1.amazonaws.com', 'not a name of ECR'],
    ['123456789012.dkr.ecr.eu-west.amazonaws.com', 'not a name of ECR'],
    ['123456789012.dkr.ecr.eu-west-1-2.amazonaws.com', 'not a name of ECR'],
    ['123456789012.dkr.ecr-fips.eu.west.1.on.aws', 'not a name of ECR'],
  ])('%j, even with a region', (host, reason) => {
    expect(parseRegistryHost(host, 'eu-west-1')).toEqual({ whyNot: expect.stringContaining(reason) as string });
  });

  it.each(['', 'eu-west', 'EU-WEST-1', 'eu-west-1a', 'eu_west_1', 'eu-west-1 ', 'global', '1', 'eu-west-1.example'])(
    'the region %j',
    (region) => {
      expect(parseRegistryHost('registry.corp.example', region)).toEqual({
        whyNot: 'not a region of AWS: those look like eu-west-1',
      });
    },
  );
});

it('what is taken can stand at the start of an image name, whatever the text', () => {
  const pieces = constantFrom('https://', '/', '.', ':443', ':5000', 'A', ' ', 'dkr.ecr', '123456789012.', 'example');
  assert(
    property(pieces, string({ maxLength: 12 }), pieces, (before, text, after) => {
      const parsed = parseRegistryHost(before + text + after, 'eu-west-1');
      if ('whyNot' in parsed) return;
      expect(parsed.host).toMatch(/^[a-z0-9.-]+(:[0-9]+)?$/);
      expect(parsed.host).not.toMatch(/:443$/);
    }),
  );
});
