import fc from 'fast-check';
import { isDeepStrictEqual } from 'node:util';
import { expect, it } from 'vitest';
import { tokenKey, type TokenRequest } from '../../src/aws/authorizationToken.ts';
import type { AssumeRoleStep, CredentialSource } from '../../src/aws/identity.ts';

// Tokens are cached, and stored, by this key: where two identities shared one, a namespace would get what another may pull.

// Few values, so that two requests are often equal in all but one part; with the separators of JSON, paths and lists in
// them, so that a part that ends earlier and one that begins later come to the same text.
const text = fc.oneof(
  fc.constantFrom('a', 'b', 'a,b', 'a"', '","', 'a","b', '\\', '\\"', 'a/b', ':', '', '[', ']', 'null', '\u0000'),
  fc.constantFrom('constructor', '__proto__', 'é', 'e\u0301', 'A', '\ud800', '\\ud800', ' a', 'a ', 'a'.repeat(253)),
  fc.string({ maxLength: 4 }),
);
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });

const step: fc.Arbitrary<AssumeRoleStep> = fc.record({
  roleArn: text,
  externalId: maybe(text),
  sessionName: maybe(text),
  durationSeconds: maybe(fc.constantFrom(900, 3600, 43_200)),
});
const keys = fc
  .record({ secretName: text, accessKeyId: text, secretAccessKey: text, sessionToken: maybe(text) })
  .map(({ sessionToken, ...rest }): CredentialSource => ({
    kind: 'accessKey',
    ...rest,
    ...(sessionToken !== undefined && { sessionToken }),
  }));
const request: fc.Arbitrary<TokenRequest> = fc.record({
  identity: fc.record({
    source: fc.oneof(fc.constant<CredentialSource>({ kind: 'operator' }), keys),
    chain: fc.array(step, { maxLength: 3 }),
  }),
  service: fc.constantFrom('ecr', 'ecr-public'),
  region: text,
});

const OWN = [
  'AWS_ACCESS_KEY_ID',
  'AWS_PROFILE',
  'AWS_ROLE_ARN',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_SHARED_CREDENTIALS_FILE',
  'AWS_CONFIG_FILE',
  'AWS_ROLE_SESSION_NAME',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
];
const SWITCHES = ['AWS_USE_FIPS_ENDPOINT', 'AWS_USE_DUALSTACK_ENDPOINT'];
const ENDPOINTS = ['AWS_ENDPOINT_URL', 'AWS_ENDPOINT_URL_ECR', 'AWS_ENDPOINT_URL_ECR_PUBLIC', 'AWS_ENDPOINT_URL_STS'];
const variables: Readonly<Record<string, fc.Arbitrary<string>>> = Object.fromEntries([
  ...OWN.map((name) => [name, text] as const),
  ...ENDPOINTS.map((name) => [name, fc.constantFrom('https://a', 'https://a/', 'https://b')] as const),
  ...SWITCHES.map((name) => [name, fc.constantFrom('true', 'false')] as const),
]);
const environment: fc.Arbitrary<Readonly<Record<string, string | undefined>>> = fc.record(variables, {
  requiredKeys: [],
});
const variable = fc
  .constantFrom(...Object.keys(variables))
  .chain((name) => fc.record({ name: fc.constant(name), value: maybe(variables[name] ?? text) }));

type Asked = readonly [request: TokenRequest, env: Readonly<Record<string, string | undefined>>];

/** The same with one field as another has it. */
function withOneOf<T extends object>(one: T, other: T, pick: number): T {
  const names = Object.keys({ ...one, ...other }) as (keyof T)[];
  const name = names[pick % names.length];
  return name === undefined ? one : { ...one, [name]: other[name] };
}

/** Two that are equal but for one part. */
const neighbours: fc.Arbitrary<readonly [Asked, Asked]> = fc
  .record({ request, environment, other: request, variable, pick: fc.nat(9), step })
  .chain(({ request, environment, other, variable, pick, step }) => {
    const { identity } = request;
    const [head, ...rest] = identity.chain;
    const isKeys = identity.source.kind === 'accessKey' && other.identity.source.kind === 'accessKey';
    const source = isKeys ? withOneOf(identity.source, other.identity.source, pick) : other.identity.source;
    const chain = head ? [withOneOf(head, step, pick), ...rest] : other.identity.chain;
    const first: Asked = [request, environment];
    return fc.constantFrom<readonly [Asked, Asked]>(
      [first, [other, environment]],
      [first, [{ ...request, identity: { ...identity, source: other.identity.source } }, environment]],
      [first, [{ ...request, identity: { ...identity, chain: other.identity.chain } }, environment]],
      [first, [{ ...request, identity: { ...identity, source } }, environment]],
      [first, [{ ...request, identity: { ...identity, chain } }, environment]],
      [first, [{ ...request, region: other.region }, environment]],
      [first, [{ ...request, service: other.service }, environment]],
      [first, [request, { ...environment, [variable.name]: variable.value }]],
    );
  });

/** Who asks whom for what, by the words of AWS and the SDK: written apart from the key, and compared as a structure. */
function asked([{ identity, service, region }, env]: Asked): unknown {
  const isSet = (name: string) => env[name] === 'true';
  const isPublic = service === 'ecr-public';
  const { source, chain } = identity;
  const own = Object.fromEntries(OWN.map((name) => [name, env[name]]));
  return {
    service,
    region: isPublic && chain.length === 0 ? 'us-east-1' : region,
    url: env[isPublic ? 'AWS_ENDPOINT_URL_ECR_PUBLIC' : 'AWS_ENDPOINT_URL_ECR'] ?? env['AWS_ENDPOINT_URL'],
    sts: chain.length > 0 ? (env['AWS_ENDPOINT_URL_STS'] ?? env['AWS_ENDPOINT_URL']) : undefined,
    isFips: (!isPublic || chain.length > 0) && isSet('AWS_USE_FIPS_ENDPOINT'),
    isDualStack: (!isPublic || chain.length > 0) && isSet('AWS_USE_DUALSTACK_ENDPOINT'),
    // The Secret's name is no part of who asks: two with the same keys are one identity.
    source: source.kind === 'operator' ? own : { ...source, secretName: undefined },
    chain: chain.map(({ roleArn, externalId, sessionName, durationSeconds }) => [
      ...[roleArn, externalId, sessionName, durationSeconds],
    ]),
  };
}

it('two that differ in source, chain, endpoint, region or service share no key, and equal ones have one', () => {
  let equal = 0;
  fc.assert(
    fc.property(neighbours, ([one, other]) => {
      const isSame = isDeepStrictEqual(asked(one), asked(other));
      if (isSame) equal += 1;
      expect(tokenKey(...one) === tokenKey(...other)).toBe(isSame);
    }),
    { numRuns: 5_000 },
  );
  expect(equal).toBeGreaterThan(50); // both sides were tried
});

it('no key shows a part of what it is made of', () => {
  fc.assert(
    fc.property(request, environment, (one, env) => {
      expect(tokenKey(one, env)).toMatch(/^[0-9a-f]{64}$/);
    }),
  );
});
