/**
 * Our code for an error's name, which AWS spells in several ways: ECR's end in Exception, STS's do not, and some
 * services use both. undefined: one that we do not know.
 */
export function codeOfName(name: string): string | undefined {
  return codes.get(name);
}

const CODES: readonly (readonly [code: string, names: readonly string[]])[] = [
  ['AccessDenied', ['AccessDeniedException', 'AccessDenied', 'UnauthorizedOperation', 'UnauthorizedException']],
  ['ExpiredCredentials', ['ExpiredTokenException', 'ExpiredToken', 'TokenRefreshRequired']],
  [
    'InvalidCredentials',
    [
      'UnrecognizedClientException',
      'InvalidClientTokenId',
      'InvalidAccessKeyId',
      'InvalidSignatureException',
      'SignatureDoesNotMatch',
      'IncompleteSignature',
      'IncompleteSignatureException',
      'MissingAuthenticationToken',
      'MissingAuthenticationTokenException',
      'AuthFailure',
      'NotAuthorized',
      'RequestExpired',
      'RequestTimeTooSkewed',
      'RequestInTheFuture',
    ],
  ],
  [
    'InvalidIdentityToken',
    ['InvalidIdentityToken', 'InvalidIdentityTokenException', 'IDPRejectedClaim', 'IDPRejectedClaimException'],
  ],
  ['RegionDisabled', ['OptInRequired', 'RegionDisabledException', 'RegionDisabled']],
  [
    'InvalidRequest',
    [
      'ValidationError',
      'ValidationException',
      'InvalidParameterException',
      'InvalidParameterValue',
      'MalformedPolicyDocumentException',
      'PackedPolicyTooLargeException',
    ],
  ],
  ['IdentityProviderUnreachable', ['IDPCommunicationError', 'IDPCommunicationErrorException']],
  ['NoCredentials', ['CredentialsProviderError', 'ProviderError', 'TokenProviderError']],
  ['InvalidEndpoint', ['EndpointError']],
  [
    'Throttled',
    [
      'ThrottleException', // the name in ECR's user guide; the SDK does not know it
      'ThrottlingException',
      'Throttling',
      'ThrottledException',
      'TooManyRequestsException',
      'RequestLimitExceeded',
      'RequestThrottled',
      'RequestThrottledException',
      'LimitExceededException',
      'SlowDown',
      'PriorRequestNotComplete',
      'BandwidthLimitExceeded',
    ],
  ],
];

const codes = new Map(CODES.flatMap(([code, names]) => names.map((name) => [name, code] as const)));
