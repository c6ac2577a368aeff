import fs from 'node:fs';
import path from 'node:path';
// Not client-node's KubeConfig: that one loads the models of every API with it, 57 MB of memory.
import {
  newClusters,
  newContexts,
  newUsers,
  type Cluster,
  type Context,
  type User,
} from '@kubernetes/client-node/dist/config_types.js';
import { load } from 'js-yaml';
import { ConfigurationError } from '../errors.ts';

export interface ClusterAndUser {
  cluster: Cluster;
  user: User;
  /** Read anew now and then; stronger than `user.token`, as in client-go. */
  tokenFile: string | null;
  namespace: string | null;
}

/** The current context of these files, the first one that names a thing winning, as kubectl merges them. */
export function readKubeconfig(files: readonly string[]): ClusterAndUser {
  const parts = files.map(readFile);
  const all = files.join(', ');
  const current = parts.find((part) => part.current !== '')?.current;
  if (current === undefined) throw new ConfigurationError('Kubeconfig', `${all}: no current-context`);
  const context = named(
    parts.flatMap((part) => part.contexts),
    current,
    `${all}: no context`,
  );
  const cluster = named(
    parts.flatMap((part) => part.clusters),
    context.cluster,
    `${all}: no cluster`,
  );
  const user =
    context.user === undefined
      ? { name: '' }
      : named(
          parts.flatMap((part) => part.users),
          context.user,
          `${all}: no user`,
        );
  if (!URL.canParse(cluster.server)) {
    throw new ConfigurationError('Kubeconfig', `${all}: the server of cluster ${cluster.name} is no URL`);
  }
  refuseAuthProvider(user, all);
  const tokenFile = parts.map((part) => part.tokenFiles.get(user.name)).find((file) => file !== undefined);
  return { cluster, user, tokenFile: tokenFile ?? null, namespace: context.namespace ?? null };
}

interface Part {
  current: string;
  contexts: Context[];
  clusters: Cluster[];
  users: User[];
  tokenFiles: Map<string, string>; // by the user's name
}

function readFile(file: string): Part {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ConfigurationError('Kubeconfig', `cannot read the kubeconfig ${file}`, { cause });
  }
  try {
    return parse(text, path.dirname(path.resolve(file)));
  } catch (error) {
    // A YAML error quotes the lines around it, and with them perhaps a token: only what client-node's checks say is told.
    const why = error instanceof Error && error.message.endsWith(' is missing') ? error.message : 'it is no kubeconfig';
    throw new ConfigurationError('Kubeconfig', `${file}: ${why}`);
  }
}

function parse(text: string, directory: string): Part {
  const document = record(load(text));
  const current = document['current-context'];
  const users = list(document['users']);
  const tokenFiles = takeTokenFiles(users, directory);
  return {
    current: typeof current === 'string' ? current : '',
    contexts: newContexts(list(document['contexts'])),
    clusters: newClusters(list(document['clusters'])).map((cluster) => ({
      ...cluster,
      ...(cluster.caFile && { caFile: path.resolve(directory, cluster.caFile) }),
    })),
    users: newUsers(users).map((user) => ({
      ...user,
      ...(user.certFile && { certFile: path.resolve(directory, user.certFile) }),
      ...(user.keyFile && { keyFile: path.resolve(directory, user.keyFile) }),
      exec: absoluteCommand(user.exec, directory),
    })),
    tokenFiles,
  };
}

/** client-node reads a `token-file` once and relative to the working directory: it does not get to see it. */
function takeTokenFiles(users: unknown[], directory: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of users.map(record)) {
    const user = record(entry['user'] ?? {});
    const file = user['tokenFile'] ?? user['token-file'];
    if (typeof file !== 'string') continue;
    files.set(String(entry['name']), path.resolve(directory, file));
    delete user['token-file'];
  }
  return files;
}

/** As client-go: a command with a slash is relative to the kubeconfig, one without is looked up in PATH. */
function absoluteCommand(exec: unknown, directory: string): unknown {
  if (exec === undefined || exec === null) return exec;
  const { command, ...rest } = record(exec);
  return typeof command === 'string' && command.includes('/')
    ? { ...rest, command: path.resolve(directory, command) }
    : exec;
}

function refuseAuthProvider(user: User, files: string): void {
  if (!user.authProvider) return;
  throw new ConfigurationError(
    'Kubeconfig',
    `${files}: user ${user.name} has an auth-provider, which Kubernetes no longer knows: use exec, a token or a certificate`,
  );
}

function named<T extends { name: string }>(all: T[], name: string, whyNot: string): T {
  const found = all.find((one) => one.name === name);
  if (found === undefined) throw new ConfigurationError('Kubeconfig', `${whyNot} ${name}`);
  return found;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new TypeError('not a mapping');
  return value as Record<string, unknown>;
}
