import {
  createCredentialChain,
  fromHttp,
  fromIni,
  fromInstanceMetadata,
  fromProcess,
  fromTokenFile,
} from '@aws-sdk/credential-providers';
import { awsEndpoint } from './awsEndpoints.ts';
import type { ObservedTransport } from './awsTransport.ts';
import type { AwsCredentials } from './awsClients.ts';

/**
 * The operator's own credentials: the links of the SDK's default chain in their order, each asked anew, so that
 * rotated files and tokens are seen, and with the environment as an argument.
 */
export function operatorCredentials(o: {
  env: NodeJS.ProcessEnv;
  region: string;
  transport: ObservedTransport;
}): Promise<AwsCredentials> {
  const { env, region, transport } = o;
  const clientConfig = { ...awsEndpoint('sts', region, env), requestHandler: transport, credentials: NONE };
  const files = {
    ignoreCache: true,
    clientConfig,
    ...given('profile', env['AWS_PROFILE']),
    ...given('filepath', env['AWS_SHARED_CREDENTIALS_FILE']),
    ...given('configFilepath', env['AWS_CONFIG_FILE']),
  };
  return createCredentialChain(
    () => fromVariables(env),
    fromIni(files),
    fromProcess(files),
    fromTokenFile({
      clientConfig,
      roleSessionName: env['AWS_ROLE_SESSION_NAME'] || DEFAULT_SESSION_NAME,
      ...given('webIdentityTokenFile', env['AWS_WEB_IDENTITY_TOKEN_FILE']),
      ...given('roleArn', env['AWS_ROLE_ARN']),
    }),
    remote(env),
  )();
}

/** The session's name in CloudTrail and trust policies; the SDK's own would differ in each call. */
export const DEFAULT_SESSION_NAME = 'ecr-pull-secrets';

type Provider = () => Promise<AwsCredentials>;

function fromVariables(env: NodeJS.ProcessEnv): Promise<AwsCredentials> {
  const accessKeyId = env['AWS_ACCESS_KEY_ID'];
  const secretAccessKey = env['AWS_SECRET_ACCESS_KEY'];
  // As in the SDK: who names a profile means it.
  if (env['AWS_PROFILE'] || !accessKeyId || !secretAccessKey) return Promise.reject(new NextLinkError());
  return Promise.resolve({ accessKeyId, secretAccessKey, ...given('sessionToken', env['AWS_SESSION_TOKEN']) });
}

function remote(env: NodeJS.ProcessEnv): Provider {
  const relative = env['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'];
  const full = env['AWS_CONTAINER_CREDENTIALS_FULL_URI'];
  if (relative || full) {
    return fromHttp({
      ...given('awsContainerCredentialsRelativeUri', relative),
      ...given('awsContainerCredentialsFullUri', full),
      ...given('awsContainerAuthorizationToken', env['AWS_CONTAINER_AUTHORIZATION_TOKEN']),
      ...given('awsContainerAuthorizationTokenFile', env['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']),
    });
  }
  const disabled = env['AWS_EC2_METADATA_DISABLED'];
  if (disabled && disabled !== 'false') return () => Promise.reject(new NextLinkError());
  return fromInstanceMetadata({ timeout: 1_000, maxRetries: 1 });
}

// What the chain takes for "not here, try the next one".
class NextLinkError extends Error {
  readonly tryNextLink = true;
  override readonly name = 'CredentialsProviderError';
}

// AssumeRoleWithWebIdentity is not signed; without these its client would ask the default chain.
const NONE = { accessKeyId: '', secretAccessKey: '' };

function given<Key extends string>(key: Key, value: string | undefined): Partial<Record<Key, string>> {
  return value ? ({ [key]: value } as Record<Key, string>) : {};
}
