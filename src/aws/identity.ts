import { ConfigurationError } from '../errors.ts';

/** Who asks AWS: a source of credentials, and the roles that are assumed on top of it, in order. */
export interface Identity {
  readonly source: CredentialSource;
  readonly chain: readonly AssumeRoleStep[];
}

export type CredentialSource =
  /** The operator's own: what the SDK's default chain finds. */
  | { readonly kind: 'operator' }
  | {
      readonly kind: 'accessKey';
      readonly secretName: string; // for messages
      readonly accessKeyId: string;
      readonly secretAccessKey: string;
      readonly sessionToken?: string;
    };

export interface AssumeRoleStep {
  readonly roleArn: string;
  readonly externalId?: string | undefined;
  readonly sessionName?: string | undefined; // default: the operator's name, the same in each call
  readonly durationSeconds?: number | undefined; // default: STS's own, 3600
}

/** Reads a Secret's `data`. Blanks around the values go: a newline at the end is the commonest mistake. */
export function parseAccessKeys(secretName: string, data: Readonly<Record<string, string>>): CredentialSource {
  const values = new Map(Object.entries(data));
  const read = (key: string): string =>
    Buffer.from(values.get(key) ?? '', 'base64')
      .toString()
      .trim();
  const required = (key: string): string => {
    const value = read(key);
    if (value !== '' && PRINTABLE.test(value)) return value;
    const problem = values.has(key) ? (value === '' ? 'is empty' : 'is not plain text') : 'is missing';
    throw new ConfigurationError(
      'InvalidCredentials',
      `the key ${key} of the Secret ${secretName} ${problem}: it must hold AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY`,
    );
  };
  const sessionToken = read('AWS_SESSION_TOKEN') === '' ? undefined : required('AWS_SESSION_TOKEN');
  return {
    kind: 'accessKey',
    secretName,
    accessKeyId: required('AWS_ACCESS_KEY_ID'),
    secretAccessKey: required('AWS_SECRET_ACCESS_KEY'),
    ...(sessionToken !== undefined && { sessionToken }),
  };
}

/** For messages: names the source, tells nothing of its keys. */
export function describeSource(source: CredentialSource): string {
  return source.kind === 'operator' ? "the operator's own AWS identity" : `the keys of the Secret ${source.secretName}`;
}

// What may stand in a header; anything else would fail deep in the HTTP client, with the value in its message.
const PRINTABLE = /^[\x21-\x7e]+$/;
