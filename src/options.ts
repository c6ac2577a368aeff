import { argv, env as processEnv } from 'node:process';

import * as z from 'zod';

import { helpOf, invalid, parseFlags, readArguments, type Given } from './flags.ts';

export type RunOptions = Readonly<{
  kubeconfig: string | undefined; // undefined: the pod's own
  namespace: string | undefined; // the operator's own; undefined: that of the connection
  secretName: string;
  formerSecretNames: readonly string[];
  credentialSecretNames: readonly string[];
  serviceAccounts: boolean;
  removalDelayMs: number;
  refreshRate: number; // namespaces per second
  logLevel: string;
  metricsBindAddress: string;
  healthBindAddress: string;
  env: Readonly<NodeJS.ProcessEnv>;
}>;

export type CleanupOptions = Readonly<
  Pick<
    RunOptions,
    'kubeconfig' | 'namespace' | 'secretName' | 'formerSecretNames' | 'serviceAccounts' | 'logLevel' | 'env'
  > & { timeoutMs: number }
>;

export type Command =
  | { command: 'run'; options: RunOptions }
  | { command: 'cleanup'; options: CleanupOptions }
  | { command: 'help'; text: string }
  | { command: 'version' };

/**
 * Reads flags and their twins in the environment (`--log-level`, `ECR_PULL_SECRETS_LOG_LEVEL`); the flag wins.
 * Throws a ConfigurationError of one line that names the flag or variable. The only reader of the environment: whoever
 * needs more of it is handed `env`.
 */
export function parseOptions(
  args: readonly string[] = argv.slice(2),
  env: Readonly<NodeJS.ProcessEnv> = processEnv,
): Command {
  const { flags, positionals } = readArguments(args, { ...runFlags.shape, ...cleanupFlags.shape });
  if (flags.has('help')) return { command: 'help', text: helpText() };
  if (flags.has('version')) return { command: 'version' };
  const [command = 'run', ...extra] = positionals;
  if (extra.length) throw invalid(`unexpected argument ${JSON.stringify(extra[0])}`);
  if (command === 'run') return { command, options: runOptions({ flags, env }) };
  if (command === 'cleanup') return { command, options: cleanupOptions({ flags, env }) };
  throw invalid(`unknown command ${JSON.stringify(command)}: there are run, the default, and cleanup`);
}

const DURATION = /^([0-9]+)(ms|s|m|h)$/;
const MS_OF_UNIT = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

function duration(range: { atLeastMs: number; atMostMs: number; text: string }) {
  return z.string().transform((text, context) => {
    const [, number, unit = ''] = DURATION.exec(text) ?? [];
    const ms = Number(number) * (MS_OF_UNIT.get(unit) ?? Number.NaN);
    if (ms >= range.atLeastMs && ms <= range.atMostMs) return ms;
    context.addIssue(`not a duration such as 5s or 2m, ${range.text}`);
    return z.NEVER;
  });
}

const objectName = z
  .string()
  .max(253, 'longer than the 253 characters of a name')
  .regex(
    /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/,
    'not the name of an object: lower-case letters, digits, dashes and dots',
  );

// The empty text is the empty list.
const objectNames = z
  .string()
  .transform((text) => [
    ...new Set(
      text
        .split(',')
        .map((name) => name.trim())
        .filter(Boolean),
    ),
  ])
  .pipe(z.array(objectName));

const bindAddress = z
  .string()
  .regex(/^(0|([^:/\s]*|\[[0-9a-fA-F:.]+\]):[0-9]{1,5})$/, 'not an address to listen on: [HOST]:PORT, or 0 for off')
  .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'not a port: 65535 at most');

const common = {
  kubeconfig: z.string().min(1).optional().meta({ value: 'FILE', help: "kubeconfig file; default: the pod's own" }),
  namespace: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'not the name of a namespace')
    .optional()
    .meta({ value: 'NAME', help: "the operator's own namespace; default: the pod's or the kubeconfig's" }),
  secretName: objectName.prefault('ecr-pull').meta({ value: 'NAME', help: 'the pull secret in each namespace' }),
  formerSecretNames: objectNames
    .prefault('')
    .meta({ value: 'NAMES', help: 'names that the pull secret had before, with commas' }),
  serviceAccounts: z
    .enum(['true', 'false'], 'true or false')
    .prefault('true')
    .transform((text) => text === 'true')
    .meta({ value: 'BOOL', help: 'whether ServiceAccounts get the entry' }),
  logLevel: z
    .enum(['debug', 'info', 'warn', 'error'], 'debug, info, warn or error')
    .prefault('info')
    .meta({ value: 'LEVEL', help: 'debug, info, warn or error' }),
};

const runFlags = z.object({
  ...common,
  credentialSecretNames: objectNames
    .prefault('aws-credentials')
    .meta({ value: 'NAMES', help: 'Secrets with AWS keys that resources may name, with commas' }),
  removalDelay: duration({ atLeastMs: 0, atMostMs: 3_600_000, text: '1h at most' })
    .prefault('5s')
    .meta({ value: 'DURATION', help: 'how long a removal waits, so that delete and create is none' }),
  refreshRate: z
    .string()
    .regex(/^[1-9][0-9]{0,4}$/, 'a whole number from 1 to 99999')
    .transform(Number)
    .prefault('50')
    .meta({ value: 'NUMBER', help: 'namespaces per second that get a refreshed token' }),
  metricsBindAddress: bindAddress.prefault(':8080').meta({ value: 'ADDRESS', help: '/metrics; 0: off' }),
  healthBindAddress: bindAddress.prefault(':8081').meta({ value: 'ADDRESS', help: '/healthz and /readyz; 0: off' }),
});

const cleanupFlags = z.object({
  ...common,
  timeout: duration({ atLeastMs: 1000, atMostMs: 3_600_000, text: 'from 1s to 1h' })
    .prefault('60s')
    .meta({ value: 'DURATION', help: 'cleanup: how long all of it may take' }),
});

function runOptions(given: Given): RunOptions {
  const { removalDelay, kubeconfig, namespace, ...rest } = parseFlags(runFlags, given);
  refuseClashes(rest);
  refuseUnusableEndpoints(given.env);
  return frozen({ ...rest, kubeconfig, namespace, removalDelayMs: removalDelay, env: given.env });
}

function cleanupOptions(given: Given): CleanupOptions {
  const { timeout, kubeconfig, namespace, ...rest } = parseFlags(cleanupFlags, given);
  refuseClashes(rest);
  return frozen({ ...rest, kubeconfig, namespace, timeoutMs: timeout, env: given.env });
}

// The environment stays as it is: the AWS SDK and the proxy agent look at it later.
function frozen<T extends object>(options: T): Readonly<T> {
  for (const value of Object.values(options)) if (Array.isArray(value)) Object.freeze(value);
  return Object.freeze(options);
}

const TOKEN_STORE = 'ecr-pull-tokens';

// Two jobs for one Secret: each would overwrite, or remove, what the other keeps.
function refuseClashes({
  secretName,
  formerSecretNames,
  credentialSecretNames = [],
}: {
  secretName: string;
  formerSecretNames: readonly string[];
  credentialSecretNames?: readonly string[];
}): void {
  if (formerSecretNames.includes(secretName)) {
    throw invalid(`--former-secret-names: ${secretName} is the --secret-name of now`);
  }
  for (const name of [secretName, ...formerSecretNames]) {
    if (name === TOKEN_STORE) throw invalid(`--secret-name: ${name} is where the operator keeps its tokens`);
    if (credentialSecretNames.includes(name)) throw invalid(`--credential-secret-names: ${name} is a pull secret`);
  }
}

// The SDK refuses the pair at every call; told once at the start, it is seen.
function refuseUnusableEndpoints(env: Readonly<NodeJS.ProcessEnv>): void {
  const isSet = (name: string): boolean => env[name]?.toLowerCase() === 'true';
  const flag = ['AWS_USE_FIPS_ENDPOINT', 'AWS_USE_DUALSTACK_ENDPOINT'].find(isSet);
  if (flag === undefined || isSet('AWS_IGNORE_CONFIGURED_ENDPOINT_URLS')) return;
  const endpoint = ['', '_ECR', '_ECR_PUBLIC', '_STS'].map((of) => `AWS_ENDPOINT_URL${of}`).find((name) => env[name]);
  if (endpoint !== undefined) throw invalid(`${flag}=true excludes a custom endpoint, and ${endpoint} is set`);
}

function helpText(): string {
  return [
    'ecr-pull-secrets [run | cleanup] [FLAGS]',
    '',
    '  run       keeps a pull secret for Amazon ECR in every selected namespace (the default)',
    '  cleanup   removes all pull secrets and entries; the custom resources stay',
    '',
    ...helpOf({ ...runFlags.shape, ...cleanupFlags.shape }),
    '',
    'Each flag has a twin in the environment, such as ECR_PULL_SECRETS_LOG_LEVEL for --log-level; the flag wins.',
    '',
  ].join('\n');
}
