#!/usr/bin/env -S node --disable-warning=ExperimentalWarning --disable-sigusr1 --disable-proto=delete
import { ConfigurationError, OperatorError } from './errors.ts';
import { parseOptions } from './options.ts';
import { version } from './version.ts';

process.on('uncaughtException', fail);
await dispatch().catch(fail);

// Each command is loaded when it is asked for: `--help` needs no AWS SDK.
async function dispatch(): Promise<void> {
  const parsed = parseOptions();
  switch (parsed.command) {
    case 'run':
      return await (await import('./cli/run.ts')).run(parsed.options);
    case 'cleanup':
      return await (await import('./cli/cleanup.ts')).cleanup(parsed.options);
    case 'help':
      process.stdout.write(parsed.text);
      return;
    case 'version':
      process.stdout.write(`${version}\n`);
  }
}

// 2: bad input, 1: anything else. Of a bug only the frames are printed: its message or cause may hold anything.
function fail(error: unknown): void {
  if (error instanceof OperatorError) {
    process.stderr.write(`ecr-pull-secrets: ${error.message}\n`);
  } else {
    const { name, stack = '' } = error instanceof Error ? error : { name: typeof error };
    const frames = stack.split('\n').filter((line) => line.startsWith('    at '));
    process.stderr.write([`ecr-pull-secrets: unexpected ${name}: this is a bug`, ...frames, ''].join('\n'));
  }
  process.exit(error instanceof ConfigurationError ? 2 : 1);
}
