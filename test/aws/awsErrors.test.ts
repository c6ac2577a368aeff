import { expect, test } from 'vitest';
import { explainAwsError, type AwsCall } from '../../src/aws/awsErrors.ts';

const source = {
  kind: 'accessKey',
  secretName: 'aws/aws-credentials',
  accessKeyId: 'AKIAUSER',
  secretAccessKey: 'user-secret',
} as const;
const asked: AwsCall = {
  ...{ action: 'ecr:GetAuthorizationToken', region: 'eu-wset-1', host: 'api.ecr.eu-wset-1.amazonaws.com' },
  ...{ source, roleArn: null, secrets: ['user-secret'] },
};
const assuming: AwsCall = {
  ...{ ...asked, action: 'sts:AssumeRole', host: 'sts.eu-wset-1.amazonaws.com' },
  roleArn: 'arn:aws:iam::222222222222:role/pull',
};

/** As Node and the SDK throw them. */
function thrown(fields: object): Error {
  return Object.assign(new Error('words of somebody else'), fields);
}

const NETWORK = 'look at firewalls, network policies and HTTPS_PROXY';
const table: [what: string, error: Error, call: AwsCall, code: string, message: string | RegExp][] = [
  [
    'a name that is not there may be a mistyped region',
    thrown({ code: 'ENOTFOUND' }),
    asked,
    'HostNotFound',
    /^the name api\.ecr\.eu-wset-1\.amazonaws\.com does not exist: the region eu-wset-1 may be mistyped, or DNS /,
  ],
  [
    'so may one for which DNS has no answer',
    thrown({ code: 'EAI_AGAIN' }),
    asked,
    'DnsFailure',
    /^DNS does not answer for api\.ecr\.eu-wset-1\.amazonaws\.com: look at the cluster's DNS.*region eu-wset-1 may be mistyped/,
  ],
  [
    'and one to which a proxy opens no tunnel',
    thrown({ code: 'ERR_PROXY_TUNNEL', statusCode: 502 }),
    asked,
    'ProxyRefused',
    /^the proxy opens no tunnel to api\.ecr\.eu-wset-1\.amazonaws\.com \(HTTP 502\): .*region eu-wset-1 may be mistyped.*NO_PROXY/,
  ],
  [
    'a proxy that wants a password is told so, and no region is blamed',
    thrown({ code: 'ERR_PROXY_TUNNEL', statusCode: 407 }),
    asked,
    'ProxyRefused',
    'the proxy opens no tunnel to api.ecr.eu-wset-1.amazonaws.com (HTTP 407): put its user and password into HTTPS_PROXY, or the host into NO_PROXY',
  ],
  [
    'a refused connection',
    thrown({ code: 'ECONNREFUSED' }),
    asked,
    'Unreachable',
    `api.ecr.eu-wset-1.amazonaws.com cannot be reached (ECONNREFUSED): ${NETWORK}`,
  ],
  [
    'silence',
    thrown({ name: 'TimeoutError' }),
    asked,
    'Unreachable',
    `api.ecr.eu-wset-1.amazonaws.com does not answer in time or closes the connection: ${NETWORK}`,
  ],
  [
    'what cannot be read',
    thrown({ name: 'SyntaxError' }),
    asked,
    'NotAnAwsAnswer',
    /api\.ecr\.eu-wset-1\.amazonaws\.com is not AWS's: is there a proxy or a login page in between/,
  ],
  [
    'throttling',
    thrown({ name: 'ThrottlingException', $fault: 'client' }),
    asked,
    'Throttled',
    'AWS throttles ecr:GetAuthorizationToken in eu-wset-1: too many calls of the account. It is asked again later; look for what else asks so often',
  ],
  [
    'a fault of AWS',
    thrown({ name: 'ServerException', $fault: 'server', $metadata: { httpStatusCode: 500 } }),
    asked,
    'ServerError',
    "AWS has a fault at api.ecr.eu-wset-1.amazonaws.com (HTTP 500): it is asked again; look at AWS's status page",
  ],
  [
    'keys that may not assume a role: they are blamed, and not the role',
    thrown({ name: 'AccessDenied', message: 'User: arn:aws:iam::1:user/u is not authorized', $fault: 'client' }),
    assuming,
    'AccessDenied',
    /^AWS refuses sts:AssumeRole in eu-wset-1 to the keys of the Secret aws\/aws-credentials \(for the role arn:aws:iam::222222222222:role\/pull\): User: .*trust policy/,
  ],
  [
    'keys that STS does not know: they are blamed, and not the role',
    thrown({ name: 'InvalidClientTokenId', $fault: 'client' }),
    assuming,
    'InvalidCredentials',
    /^AWS does not accept the keys of the Secret aws\/aws-credentials \(for the role arn:aws:iam::222222222222:role\/pull\) for sts:AssumeRole/,
  ],
];

test.each(table)('%s', (_, error, call, code, message) => {
  const explained = explainAwsError(error, call);
  expect(explained.code).toBe(code);
  if (typeof message === 'string') expect(explained.message).toBe(message);
  else expect(explained.message).toMatch(message);
});
