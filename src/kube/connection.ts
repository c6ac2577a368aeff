import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { User } from '@kubernetes/client-node/dist/config_types.js';
import { ExecAuth } from '@kubernetes/client-node/dist/exec_auth.js';
import { Agent, ProxyAgent, type Dispatcher } from 'undici';
import { systemClock, type Clock } from '../clock.ts';
import { ConfigurationError, TransientError } from '../errors.ts';
import { readKubeconfig, type ClusterAndUser } from './kubeconfig.ts';
import { resettingConnector } from './resettingConnector.ts';
import { sharedLookup } from './sharedLookup.ts';

/** How the API server is reached: where, over which connections, and as whom. */
export interface Connection {
  /** Without a slash at its end; may have a path. */
  readonly server: string;
  /** The namespace that we run in, or that of the kubeconfig's context. */
  readonly namespace: string | null;
  /** Kept connections, shared by all requests. Ask for it anew for each request: `renew` may have replaced it. */
  readonly dispatcher: Dispatcher;
  /** The headers that say who we are. */
  headers(): Promise<Record<string, string>>;
  /** After a 401: the token is read anew. After a failed connection: CA and client certificate are, if their files changed. */
  renew(what: 'token' | 'certificates'): void;
  /** The same server and identity over connections of its own: what happens to these does not touch the others. */
  fork(): Connection;
  close(): Promise<void>;
}

/**
 * From the kubeconfig file, else `KUBECONFIG`, else the pod's own ServiceAccount, else `~/.kube/config`: the order of
 * controller-runtime. Throws a ConfigurationError that names the file. `proxy-url` of the kubeconfig is honoured;
 * `HTTPS_PROXY` is for AWS and not read here.
 */
export function connect(o: {
  kubeconfig?: string | undefined;
  env: NodeJS.ProcessEnv;
  /** Where the pod's token, CA and namespace lie. */
  serviceAccountDirectory?: string;
  clock?: Clock;
}): Connection {
  return new ServerConnection(configuration(o), o.clock ?? systemClock);
}

function configuration(o: Parameters<typeof connect>[0]): ClusterAndUser {
  const { KUBECONFIG, KUBERNETES_SERVICE_HOST, HOME } = o.env;
  if (o.kubeconfig) return readKubeconfig([o.kubeconfig]);
  if (KUBECONFIG) return readKubeconfig(KUBECONFIG.split(path.delimiter).filter(Boolean));
  if (KUBERNETES_SERVICE_HOST) {
    return inCluster(o.env, o.serviceAccountDirectory ?? '/var/run/secrets/kubernetes.io/serviceaccount');
  }
  return readKubeconfig([path.join(HOME ?? '', '.kube', 'config')]);
}

function inCluster(env: NodeJS.ProcessEnv, directory: string): ClusterAndUser {
  const host = env['KUBERNETES_SERVICE_HOST'] ?? '';
  const server = `https://${net.isIPv6(host) ? `[${host}]` : host}:${env['KUBERNETES_SERVICE_PORT'] ?? '443'}`;
  let namespace: string | null = null;
  try {
    namespace = fs.readFileSync(path.join(directory, 'namespace'), 'utf8').trim() || null;
  } catch {
    // Who needs it says so.
  }
  return {
    cluster: { name: 'in-cluster', server, caFile: path.join(directory, 'ca.crt'), skipTLSVerify: false },
    user: { name: 'in-cluster' },
    tokenFile: path.join(directory, 'token'),
    namespace,
  };
}

const TOKEN_AGE_MS = 60_000; // a projected token lives 10 minutes at least and is replaced long before its end
const KEEP_ALIVE_MS = 30_000; // below the idle limits of load balancers (60 s) and of the API server (90 s)
const CONNECTIONS = 64; // at once, watches among them; more requests than that wait
const HEADER_BYTES = 64 * 1024;

const lookup = sharedLookup(); // of the process: what it spares is the process' own

interface TlsFiles {
  ca?: Buffer | undefined;
  cert?: Buffer | string | undefined;
  key?: Buffer | string | undefined;
}

class ServerConnection implements Connection {
  readonly server: string;
  readonly namespace: string | null;
  readonly #config: ClusterAndUser;
  readonly #clock: Clock;
  #exec = new ExecAuth();
  #execTls: TlsFiles = {};
  #dispatcher: Dispatcher;
  #tls: TlsFiles;
  #tokenIsOld = false;
  #token: { value: string; readAt: number } | null = null;

  constructor(config: ClusterAndUser, clock: Clock) {
    this.#config = config;
    this.#clock = clock;
    this.server = config.cluster.server.replace(/\/+$/, '');
    this.namespace = config.namespace;
    this.#tls = this.#readTls();
    this.#dispatcher = createDispatcher(config, this.#tls);
  }

  get dispatcher(): Dispatcher {
    return this.#dispatcher;
  }

  async headers(): Promise<Record<string, string>> {
    const { user, tokenFile } = this.#config;
    const headers: Record<string, string> = {};
    if (user.impersonateUser) headers['impersonate-user'] = user.impersonateUser;
    if (tokenFile !== null) headers['authorization'] = `Bearer ${this.#readToken(tokenFile)}`;
    else if (user.token) headers['authorization'] = `Bearer ${user.token.trim()}`;
    else if (user.username) headers['authorization'] = basic(user);
    else if (user.exec) Object.assign(headers, await this.#execHeaders());
    return headers;
  }

  renew(what: 'token' | 'certificates'): void {
    if (what === 'token') {
      this.#tokenIsOld = true;
      this.#exec = new ExecAuth();
      return;
    }
    try {
      this.#useTls(this.#readTls());
    } catch {
      // A file is just being replaced: what we have is as good as anything.
    }
  }

  fork(): Connection {
    return new ServerConnection(this.#config, this.#clock);
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }

  /** The file's content, read again after a minute. One that is empty or missing for a moment does not replace what we have. */
  #readToken(file: string): string {
    const now = this.#clock.monotonic();
    if (this.#token !== null && !this.#tokenIsOld && now - this.#token.readAt < TOKEN_AGE_MS) return this.#token.value;
    let value = '';
    try {
      value = fs.readFileSync(file, 'utf8').trim();
    } catch {
      // Below.
    }
    if (value === '' && this.#token === null) throw new TransientError('NoToken', `no token in ${file}`);
    this.#token = { value: value === '' ? (this.#token?.value ?? '') : value, readAt: now };
    this.#tokenIsOld = value === '';
    return this.#token.value;
  }

  async #execHeaders(): Promise<Record<string, string>> {
    const { user } = this.#config;
    const answer: { headers: Record<string, string>; cert?: string; key?: string } = { headers: {} };
    try {
      await this.#exec.applyAuthentication(user, answer);
    } catch {
      // What the plugin wrote to its standard error may hold what we must not show.
      throw new TransientError(
        'NoToken',
        `the kubeconfig's exec plugin ${execCommand(user)} of user ${user.name} failed`,
      );
    }
    if (answer.cert !== this.#execTls.cert || answer.key !== this.#execTls.key) {
      this.#execTls = { cert: answer.cert, key: answer.key };
      this.#useTls(this.#readTls());
    }
    const { Authorization: authorization } = answer.headers;
    return authorization === undefined ? {} : { authorization };
  }

  #readTls(): TlsFiles {
    const { cluster, user } = this.#config;
    return {
      ca: bytes(cluster.caFile, cluster.caData, 'certificate authority'),
      cert: this.#execTls.cert ?? bytes(user.certFile, user.certData, 'client certificate'),
      key: this.#execTls.key ?? bytes(user.keyFile, user.keyData, 'client key'),
    };
  }

  #useTls(tls: TlsFiles): void {
    if (same(tls.ca, this.#tls.ca) && same(tls.cert, this.#tls.cert) && same(tls.key, this.#tls.key)) return;
    const old = this.#dispatcher;
    this.#tls = tls;
    this.#dispatcher = createDispatcher(this.#config, tls);
    void old.close(); // requests and watches that run over it come to their end
  }
}

function createDispatcher(config: ClusterAndUser, files: TlsFiles): Dispatcher {
  const { cluster } = config;
  const tls = {
    ...(files.ca === undefined ? {} : { ca: files.ca }),
    ...(files.cert === undefined ? {} : { cert: files.cert }),
    ...(files.key === undefined ? {} : { key: files.key }),
    ...(cluster.skipTLSVerify ? { rejectUnauthorized: false } : {}),
    ...(cluster.tlsServerName ? { servername: cluster.tlsServerName } : {}),
    keepAlive: true,
    keepAliveInitialDelay: 30_000, // ms; half-open connections die before a load balancer's idle limit
    allowH2: false, // one watch, one connection: a stuck one does not hold the others
  };
  const common = {
    allowH2: false,
    connections: CONNECTIONS,
    maxHeaderSize: HEADER_BYTES,
    keepAliveTimeout: KEEP_ALIVE_MS,
    headersTimeout: 0, // deadlines are the client's matter
    bodyTimeout: 0,
  };
  if (!cluster.proxyUrl) return new Agent({ ...common, connect: resettingConnector({ ...tls, lookup }) });
  if (!/^(https?|socks5?):\/\//.test(cluster.proxyUrl)) {
    throw new ConfigurationError('Kubeconfig', "the kubeconfig's proxy-url is none of http, https, socks5");
  }
  return new ProxyAgent({ ...common, uri: cluster.proxyUrl, requestTls: tls });
}

function basic(user: User): string {
  return `Basic ${Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64')}`;
}

function execCommand(user: User): string {
  const exec: unknown = user.exec;
  if (typeof exec !== 'object' || exec === null || !('command' in exec)) return '';
  return path.basename(String(exec.command));
}

function bytes(file: string | undefined, data: string | undefined, what: string): Buffer | undefined {
  if (data) return Buffer.from(data, 'base64');
  if (!file) return undefined;
  try {
    return fs.readFileSync(file);
  } catch (cause) {
    throw new ConfigurationError('Kubeconfig', `cannot read the ${what} ${file} of the API server's connection`, {
      cause,
    });
  }
}

function same(a: Buffer | string | undefined, b: Buffer | string | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return Buffer.from(a).equals(Buffer.from(b));
}
