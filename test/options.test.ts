import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { ConfigurationError } from '../src/errors.ts';
import { parseOptions, type CleanupOptions, type RunOptions } from '../src/options.ts';
import { version } from '../src/version.ts';

function run(args: string[], env: NodeJS.ProcessEnv = {}): RunOptions {
  const parsed = parseOptions(args, env);
  if (parsed.command !== 'run') throw new Error(parsed.command);
  return parsed.options;
}

function cleanup(args: string[], env: NodeJS.ProcessEnv = {}): CleanupOptions {
  const parsed = parseOptions(['cleanup', ...args], env);
  if (parsed.command !== 'cleanup') throw new Error(parsed.command);
  return parsed.options;
}

function refusal(args: string[], env: NodeJS.ProcessEnv = {}): string {
  try {
    parseOptions(args, env);
  } catch (error) {
    if (error instanceof ConfigurationError && !error.message.includes('\n')) return error.message;
    throw error;
  }
  return '';
}

it('nothing given: the documented defaults', () => {
  const env = { AWS_REGION: 'eu-west-1' };
  expect(run([], env)).toEqual({
    kubeconfig: undefined,
    namespace: undefined,
    secretName: 'ecr-pull',
    formerSecretNames: [],
    credentialSecretNames: ['aws-credentials'],
    serviceAccounts: true,
    removalDelayMs: 5000,
    refreshRate: 50,
    logLevel: 'info',
    metricsBindAddress: ':8080',
    healthBindAddress: ':8081',
    env,
  });
});

it('the operator is the default command, and has a name', () => {
  expect(run(['run', '--log-level=debug']).logLevel).toBe('debug');
});

it('every flag is read', () => {
  const options = run([
    '--kubeconfig=/tmp/k',
    '--namespace',
    'pull',
    '--secret-name=new',
    '--former-secret-names=old, older,',
    '--credential-secret-names=a,b',
    '--service-accounts=false',
    '--removal-delay=0s',
    '--refresh-rate=1000',
    '--log-level=warn',
    '--metrics-bind-address=0',
    '--health-bind-address=[::1]:0',
  ]);
  expect(options).toMatchObject({
    kubeconfig: '/tmp/k',
    namespace: 'pull',
    secretName: 'new',
    formerSecretNames: ['old', 'older'],
    credentialSecretNames: ['a', 'b'],
    serviceAccounts: false,
    removalDelayMs: 0,
    refreshRate: 1000,
    logLevel: 'warn',
    metricsBindAddress: '0',
    healthBindAddress: '[::1]:0',
  });
});

describe('flag and environment', () => {
  it('a flag has a twin in the environment, and wins', () => {
    const env = { ECR_PULL_SECRETS_SECRET_NAME: 'from-env', ECR_PULL_SECRETS_REMOVAL_DELAY: '2m' };
    expect(run([], env)).toMatchObject({ secretName: 'from-env', removalDelayMs: 120_000 });
    expect(run(['--secret-name=from-flag'], env).secretName).toBe('from-flag');
  });

  it('an empty variable is none; an empty flag is the empty list', () => {
    expect(run([], { ECR_PULL_SECRETS_CREDENTIAL_SECRET_NAMES: '' }).credentialSecretNames).toEqual([
      'aws-credentials',
    ]);
    expect(run(['--credential-secret-names=']).credentialSecretNames).toEqual([]);
  });

  it('the last of equal flags wins', () => {
    expect(run(['--log-level=warn', '--log-level=error']).logLevel).toBe('error');
  });

  it('variables that Kubernetes sets for a Service of our name do no harm', () => {
    const env = { ECR_PULL_SECRETS_PORT: 'tcp://10.0.0.1:8080', ECR_PULL_SECRETS_SERVICE_HOST: '10.0.0.1' };
    expect(run([], env).metricsBindAddress).toBe(':8080');
  });
});

it('cleanup has a time limit, and no flag of the operator', () => {
  expect(cleanup(['--kubeconfig', 'f', '--namespace', 'n'])).toMatchObject({ namespace: 'n', timeoutMs: 60_000 });
  expect(cleanup(['--timeout=2m']).timeoutMs).toBe(120_000);
  expect(cleanup([], { ECR_PULL_SECRETS_REMOVAL_DELAY: 'nonsense' }).timeoutMs).toBe(60_000);
});

it('options are frozen, and hand on the environment as it is', () => {
  const env = { HTTPS_PROXY: 'http://proxy:3128' };
  const options = run([], env);
  expect(Object.isFrozen(options) && Object.isFrozen(options.formerSecretNames)).toBe(true);
  expect(options.env).toBe(env);
});

it.each([
  ['500ms', 500],
  ['5s', 5000],
  ['2m', 120_000],
  ['1h', 3_600_000],
])('%s is %i ms', (text, ms) => {
  expect(run([`--removal-delay=${text}`]).removalDelayMs).toBe(ms);
});

it.each<[args: string[], message: string]>([
  [['--foo'], 'unknown flag --foo: see --help'],
  [['--foo=bar'], 'unknown flag --foo'],
  [['-x'], 'unknown flag -x'],
  [['--constructor=1'], 'unknown flag --constructor'],
  [['--timeout=5s'], 'unknown flag --timeout'],
  [['cleanup', '--removal-delay=5s'], 'unknown flag --removal-delay'],
  [['--namespace'], '--namespace needs a value'],
  [['--namespace='], '--namespace: "": not the name of a namespace'],
  [['--namespace', 'Team'], 'not the name of a namespace'],
  [['start'], 'unknown command "start"'],
  [['run', 'now'], 'unexpected argument "now"'],
  [['--service-accounts=yes'], '--service-accounts: "yes": true or false'],
  [['--removal-delay=5'], '--removal-delay: "5": not a duration such as 5s or 2m'],
  [['--removal-delay=-5s'], 'not a duration'],
  [['--removal-delay=2h'], '1h at most'],
  [['cleanup', '--timeout=0s'], 'from 1s to 1h'],
  [['--refresh-rate=0'], 'a whole number from 1'],
  [['--refresh-rate=1e3'], 'a whole number from 1'],
  [['--log-level=trace'], 'debug, info, warn or error'],
  [['--metrics-bind-address=8080'], 'not an address to listen on'],
  [['--metrics-bind-address=:99999'], 'not a port'],
  [['--health-bind-address=::1:8080'], 'not an address to listen on'],
  [['--secret-name=Ecr'], '--secret-name: "Ecr": not the name of an object'],
  [['--secret-name=ecr-pull-tokens'], 'is where the operator keeps its tokens'],
  [['--former-secret-names=ecr-pull'], 'is the --secret-name of now'],
  [['--former-secret-names=a,B'], '--former-secret-names: "a,B": not the name of an object'],
  [['--credential-secret-names=ecr-pull'], 'is a pull secret'],
])('%j is refused in one line', (args, message) => {
  expect(refusal(args)).toContain(message);
});

it('a wrong variable is told by its own name', () => {
  expect(refusal([], { ECR_PULL_SECRETS_LOG_LEVEL: 'loud' })).toBe(
    'ECR_PULL_SECRETS_LOG_LEVEL: "loud": debug, info, warn or error',
  );
});

describe('FIPS or dual-stack with a custom endpoint, which the SDK refuses at each call, is refused at the start', () => {
  it.each([
    [{ AWS_USE_FIPS_ENDPOINT: 'true', AWS_ENDPOINT_URL_ECR: 'https://vpce' }, 'AWS_ENDPOINT_URL_ECR is set'],
    [{ AWS_USE_FIPS_ENDPOINT: 'TRUE', AWS_ENDPOINT_URL: 'https://vpce' }, 'AWS_USE_FIPS_ENDPOINT=true excludes'],
    [{ AWS_USE_DUALSTACK_ENDPOINT: 'true', AWS_ENDPOINT_URL_STS: 'https://vpce' }, 'AWS_USE_DUALSTACK_ENDPOINT'],
  ])('%j', (env, message) => {
    expect(refusal([], env)).toContain(message);
  });

  it.each([
    { AWS_USE_FIPS_ENDPOINT: 'true' },
    { AWS_USE_FIPS_ENDPOINT: 'false', AWS_ENDPOINT_URL: 'https://vpce' },
    { AWS_USE_FIPS_ENDPOINT: 'true', AWS_ENDPOINT_URL: '' },
    { AWS_USE_FIPS_ENDPOINT: 'true', AWS_ENDPOINT_URL_S3: 'https://vpce' },
    { AWS_USE_FIPS_ENDPOINT: 'true', AWS_ENDPOINT_URL: 'https://vpce', AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true' },
  ])('%j is fine', (env) => {
    expect(refusal([], env)).toBe('');
  });
});

describe('the program', () => {
  const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
  const execute = (...args: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> =>
    new Promise((resolve) => {
      execFile(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], (error, stdout, stderr) => {
        resolve({ code: error ? error.code : 0, stdout, stderr });
      });
    });

  it('--help names every flag with its default', async () => {
    const { code, stdout } = await execute('--help');
    expect(code).toBe(0);
    for (const line of ['--removal-delay=DURATION', '(5s)', '--timeout=DURATION', '--secret-name=NAME', '(ecr-pull)']) {
      expect(stdout).toContain(line);
    }
  });

  it('--version prints the version alone', async () => {
    expect(await execute('cleanup', '--version')).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  it('bad input is exit code 2 and one line', async () => {
    expect(await execute('--log-level=loud')).toEqual({
      code: 2,
      stdout: '',
      stderr: 'ecr-pull-secrets: --log-level: "loud": debug, info, warn or error\n',
    });
  });
});
