import { TransientError } from '../errors.ts';
import type { AwsClients, AwsCredentials, SessionAnswer } from './awsClients.ts';
import { explainAwsError, type AwsCall } from './awsErrors.ts';
import type { AssumeRoleStep, CredentialSource, Identity } from './identity.ts';
import { DEFAULT_SESSION_NAME, operatorCredentials } from './operatorCredentials.ts';
import { remedies } from './remedies.ts';

/** Credentials for one call, with the earliest end of all the sessions that they come from. */
export interface Session {
  readonly credentials: AwsCredentials;
  readonly endsAt: Date | null; // on the clock of who gave it, AWS's or the local agent's; null: none is known
}

export interface SessionContext {
  readonly owner: string; // the token's key
  readonly region: string; // STS is asked where the registry is: sessions of elsewhere may be refused there
  readonly env: NodeJS.ProcessEnv;
  readonly clients: AwsClients;
  readonly secrets: SecretSink;
  readonly signal: AbortSignal;
}

/** Secrets that no message may hold; each is put here before anything else sees it. */
export interface SecretSink {
  readonly values: readonly string[];
  add(...secrets: readonly (string | undefined)[]): void;
}

/** A new session: the source is asked anew, then each role of the chain is assumed by the one before. */
export async function openSession(identity: Identity, context: SessionContext): Promise<Session> {
  let session = await sourceSession(identity.source, context);
  for (const [index, step] of identity.chain.entries()) {
    session = await assumeRole(session, { step, index, source: identity.source }, context);
  }
  return session;
}

async function sourceSession(source: CredentialSource, context: SessionContext): Promise<Session> {
  if (source.kind === 'accessKey') {
    const { accessKeyId, secretAccessKey, sessionToken } = source;
    context.secrets.add(accessKeyId, secretAccessKey, sessionToken);
    // Nothing tells when a session's keys in a Secret end.
    const credentials = { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) };
    return { credentials, endsAt: null };
  }
  const transport = context.clients.observedTransport('sts');
  try {
    const found = await operatorCredentials({ env: context.env, region: context.region, transport });
    context.secrets.add(found.accessKeyId, found.secretAccessKey, found.sessionToken);
    return { credentials: found, endsAt: found.expiration ?? null };
  } catch (error) {
    const roleArn = context.env['AWS_ROLE_ARN'] || null;
    const action = 'sts:AssumeRoleWithWebIdentity';
    throw explainAwsError(error, callOf(context, { action, host: transport.lastHost, source, roleArn }));
  }
}

async function assumeRole(
  caller: Session,
  { step, index, source }: { step: AssumeRoleStep; index: number; source: CredentialSource },
  context: SessionContext,
): Promise<Session> {
  const client = context.clients.client(`${context.owner}/${index}`, 'sts', context.region);
  const input = {
    RoleArn: step.roleArn,
    RoleSessionName: step.sessionName ?? DEFAULT_SESSION_NAME,
    ...(step.externalId !== undefined && { ExternalId: step.externalId }),
    ...(step.durationSeconds !== undefined && { DurationSeconds: step.durationSeconds }),
  };
  try {
    const answer = await client.assumeRole(caller.credentials, input, context.signal);
    context.secrets.add(answer.AccessKeyId, answer.SecretAccessKey, answer.SessionToken);
    const credentials = credentialsOf(answer, step, client.transport.lastHost ?? 'STS');
    return { credentials, endsAt: earlier(caller.endsAt, credentials.expiration) };
  } catch (error) {
    const call = { action: 'sts:AssumeRole', host: client.transport.lastHost, source, roleArn: step.roleArn };
    throw explainAwsError(error, callOf(context, call));
  }
}

function credentialsOf(
  answer: SessionAnswer,
  { roleArn }: AssumeRoleStep,
  host: string,
): AwsCredentials & { expiration: Date } {
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = answer;
  if (!AccessKeyId || !SecretAccessKey || !SessionToken || Number.isNaN(Expiration?.getTime() ?? Number.NaN)) {
    const message = `${host} answered sts:AssumeRole with no usable session for the role ${roleArn}: ${remedies.empty}`;
    throw new TransientError('EmptyAnswer', message);
  }
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    sessionToken: SessionToken,
    expiration: Expiration ?? new Date(Number.NaN),
  };
}

function callOf(context: SessionContext, call: Omit<AwsCall, 'region' | 'secrets'>): AwsCall {
  return { ...call, region: context.region, secrets: context.secrets.values };
}

function earlier(one: Date | null, other: Date): Date {
  return one !== null && one < other ? one : other;
}
