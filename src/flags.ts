import { parseArgs } from 'node:util';

import * as z from 'zod';

import { ConfigurationError } from './errors.ts';

/** Texts from the command line, by flag, and the environment. */
export interface Given {
  readonly flags: ReadonlyMap<string, string>;
  readonly env: Readonly<NodeJS.ProcessEnv>;
}

/**
 * Reads the object of `schema` from flags and environment: a key `logLevel` is `--log-level`, or, where that is not
 * given, `ECR_PULL_SECRETS_LOG_LEVEL` if not empty. The schemas take texts.
 */
export function parseFlags<Shape extends z.core.$ZodLooseShape>(
  schema: z.ZodObject<Shape>,
  { flags, env }: Given,
): z.output<z.ZodObject<Shape>> {
  const keys = Object.keys(schema.shape);
  refuseUnknown(flags, keys);
  const given = new Map<string, string>();
  for (const key of keys) {
    const text = flags.get(flagOf(key)) ?? env[variableOf(key)];
    if (text !== undefined && (text !== '' || flags.has(flagOf(key)))) given.set(key, text);
  }
  const parsed = schema.safeParse(Object.fromEntries(given));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const key = String(issue?.path[0]);
  const source = flags.has(flagOf(key)) ? `--${flagOf(key)}` : variableOf(key);
  throw invalid(`${source}: ${JSON.stringify(given.get(key))}: ${issue?.message}`);
}

/** Splits a command line, by tokens: parseArgs' own strict mode has messages of several lines. */
export function readArguments(
  args: readonly string[],
  shape: z.core.$ZodLooseShape,
): { flags: Map<string, string>; positionals: string[] } {
  const known = new Set(Object.keys(shape).map(flagOf));
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    tokens: true,
    options: {
      ...Object.fromEntries([...known].map((flag) => [flag, { type: 'string' as const }])),
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean' },
    },
  });
  const flags = new Map<string, string>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    if (known.has(token.name) && token.value === undefined) {
      throw invalid(`${token.rawName} needs a value: ${token.rawName}=VALUE`);
    }
    flags.set(token.name, token.value ?? '');
  }
  return { flags, positionals };
}

/** A line per flag. Its schema's metadata has `value`, what stands for it, and `help`. */
export function helpOf(shape: Readonly<Record<string, z.ZodType>>): string[] {
  const lines = Object.entries(shape).map(([key, schema]) => {
    const { value, help } = schema.meta() as { value: string; help: string };
    const { default: standard } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
    return helpLine(
      `${flagOf(key)}=${value}`,
      typeof standard === 'string' && standard ? `${help} (${standard})` : help,
    );
  });
  return [...lines.sort(), helpLine('help', 'this text'), helpLine('version', 'the version')];
}

export function invalid(message: string): ConfigurationError {
  return new ConfigurationError('InvalidOption', message);
}

function helpLine(flag: string, help: string): string {
  return `  ${`--${flag}`.padEnd(34)} ${help}`;
}

// Unknown variables with our prefix are none of ours: a Service of that name makes Kubernetes set some in each pod.
function refuseUnknown(flags: ReadonlyMap<string, string>, keys: readonly string[]): void {
  const known = new Set(keys.map(flagOf));
  for (const flag of flags.keys()) {
    if (!known.has(flag)) throw invalid(`unknown flag ${flag.length > 1 ? '--' : '-'}${flag}: see --help`);
  }
}

function flagOf(key: string): string {
  return key.replaceAll(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`);
}

function variableOf(key: string): string {
  return `ECR_PULL_SECRETS_${flagOf(key).replaceAll('-', '_').toUpperCase()}`;
}
