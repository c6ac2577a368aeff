import type { ServerResponse } from 'node:http';
import type { SandboxAws } from './aws.ts';
import type { AwsSession, Principal } from './awsSessions.ts';
import { sendJson, sendStsResult, type AwsRequest, type AwsService } from './awsWire.ts';
import type { IssuedToken } from './issuedTokens.ts';

/** What was asked, by whom (null: unsigned), and of which AWS. */
export interface AwsContext {
  readonly request: AwsRequest;
  readonly caller: Principal | null;
  readonly aws: Pick<SandboxAws, 'settings' | 'tokens' | 'sessions' | 'now'>;
}

type Operation = (context: AwsContext, response: ServerResponse) => void;

/** What each service can do when nothing is wrong. */
export const awsOperations: Readonly<Record<AwsService, ReadonlyMap<string, Operation>>> = {
  ecr: new Map([['GetAuthorizationToken', privateToken]]),
  'ecr-public': new Map([['GetAuthorizationToken', publicToken]]),
  sts: new Map([
    ['AssumeRole', assumeRole],
    ['AssumeRoleWithWebIdentity', assumeRoleWithWebIdentity],
    ['GetCallerIdentity', callerIdentity],
  ]),
};

function privateToken(context: AwsContext, response: ServerResponse): void {
  const { request, aws } = context;
  const token = issue(context, 'ecr');
  // The caller's account, not that of the registry which is meant.
  const account = aws.settings.proxyAccount ?? token.account;
  const proxyEndpoint = `https://${account}.dkr.ecr.${request.region}.amazonaws.com`;
  sendJson(response, { authorizationData: [{ ...wireForm(token), proxyEndpoint }] });
}

// One object, not a list, and no endpoint.
function publicToken(context: AwsContext, response: ServerResponse): void {
  sendJson(response, { authorizationData: wireForm(issue(context, 'ecr-public')) });
}

function wireForm({ auth, expiresAt }: IssuedToken): object {
  return { authorizationToken: auth, expiresAt: expiresAt / 1000 };
}

function issue({ request, caller, aws }: AwsContext, service: IssuedToken['service']): IssuedToken {
  const { tokenLifeMs, tokensDieWithSession, account } = aws.settings;
  const endsAt = tokensDieWithSession ? (caller?.endsAt ?? null) : null;
  return aws.tokens.issue({
    ...{ service, region: request.region, accessKeyId: request.accessKeyId },
    account: caller?.account ?? account,
    lifeMs: tokenLifeMs,
    ...(endsAt !== null && { diesAfterMs: endsAt - aws.now() }),
  });
}

function assumeRole(context: AwsContext, response: ServerResponse): void {
  const session = open(context);
  sendStsResult(response, 'AssumeRole', { ...sessionXml(session) });
}

function assumeRoleWithWebIdentity(context: AwsContext, response: ServerResponse): void {
  const session = open(context);
  const subject = 'system:serviceaccount:ecr-pull-secrets:ecr-pull-secrets';
  sendStsResult(response, 'AssumeRoleWithWebIdentity', {
    ...sessionXml(session),
    SubjectFromWebIdentityToken: subject,
    Audience: 'sts.amazonaws.com',
  });
}

function open({ request, aws }: AwsContext): AwsSession {
  const { parameters, accessKeyId } = request;
  const asked = Number(parameters.get('DurationSeconds') ?? 3600) * 1000;
  return aws.sessions.open(parameters.get('RoleArn') ?? '', {
    sessionName: parameters.get('RoleSessionName') ?? '',
    lifeMs: aws.settings.sessionLifeMs ?? asked,
    openedBy: accessKeyId,
  });
}

function sessionXml({ arn, accessKeyId, secretAccessKey, sessionToken, endsAt }: AwsSession) {
  return {
    AssumedRoleUser: { Arn: arn, AssumedRoleId: `AROASANDBOX:${arn.split('/').at(-1)}` },
    Credentials: {
      AccessKeyId: accessKeyId,
      SecretAccessKey: secretAccessKey,
      SessionToken: sessionToken,
      Expiration: new Date(endsAt).toISOString(),
    },
  };
}

function callerIdentity({ caller }: AwsContext, response: ServerResponse): void {
  const { arn = '', account = '' } = caller ?? {};
  sendStsResult(response, 'GetCallerIdentity', { Arn: arn, UserId: 'AIDASANDBOX', Account: account });
}
