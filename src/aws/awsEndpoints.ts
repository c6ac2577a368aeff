/** What the operator calls: ECR and ECR Public for tokens, STS for sessions. */
export type AwsService = 'ecr' | 'ecr-public' | 'sts';

/** Where a service is asked; the part of an SDK client's configuration that comes from the environment. */
export interface AwsEndpoint {
  readonly region: string;
  readonly endpoint?: string;
  readonly useFipsEndpoint: boolean;
  readonly useDualstackEndpoint: boolean;
}

/**
 * Reads AWS_ENDPOINT_URL[_ECR|_ECR_PUBLIC|_STS], AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT. The SDK reads
 * them from its process too; what is passed wins. ECR Public is asked in us-east-1 alone, where it has neither FIPS nor
 * dual-stack names.
 */
export function awsEndpoint(service: AwsService, region: string, env: NodeJS.ProcessEnv): AwsEndpoint {
  const url = env[URL_VARIABLES[service]] || env['AWS_ENDPOINT_URL'];
  const endpoint = isSet(env['AWS_IGNORE_CONFIGURED_ENDPOINT_URLS']) || !url ? {} : { endpoint: url };
  if (service === 'ecr-public') {
    return { region: ECR_PUBLIC_REGION, ...endpoint, useFipsEndpoint: false, useDualstackEndpoint: false };
  }
  return {
    region,
    ...endpoint,
    useFipsEndpoint: isSet(env['AWS_USE_FIPS_ENDPOINT']),
    useDualstackEndpoint: isSet(env['AWS_USE_DUALSTACK_ENDPOINT']),
  };
}

const ECR_PUBLIC_REGION = 'us-east-1';

const URL_VARIABLES: Readonly<Record<AwsService, string>> = {
  ecr: 'AWS_ENDPOINT_URL_ECR',
  'ecr-public': 'AWS_ENDPOINT_URL_ECR_PUBLIC',
  sts: 'AWS_ENDPOINT_URL_STS',
};

function isSet(value: string | undefined): boolean {
  return value?.toLowerCase() === 'true';
}
