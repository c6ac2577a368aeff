import { ECRClient, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { ECRPUBLICClient, GetAuthorizationTokenCommand as GetPublicTokenCommand } from '@aws-sdk/client-ecr-public';
import { AssumeRoleCommand, STSClient, type AssumeRoleCommandInput } from '@aws-sdk/client-sts';
import type { NodeHttpHandler } from '@smithy/node-http-handler';
import { awsEndpoint, type AwsService } from './awsEndpoints.ts';
import { ObservedTransport, type AwsAnswer } from './awsTransport.ts';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: Date;
}

/** What an answer held; what is missing is the caller's to judge. */
export interface TokenAnswer {
  readonly authorizationToken?: string | undefined;
  readonly expiresAt?: Date | undefined;
}

export interface SessionAnswer {
  readonly AccessKeyId?: string | undefined;
  readonly SecretAccessKey?: string | undefined;
  readonly SessionToken?: string | undefined;
  readonly Expiration?: Date | undefined;
}

/** One client, and who asks through it just now. */
export interface HeldClient {
  readonly transport: ObservedTransport;
  getAuthorizationToken(credentials: AwsCredentials, signal: AbortSignal): Promise<TokenAnswer>;
  assumeRole(credentials: AwsCredentials, input: AssumeRoleCommandInput, signal: AbortSignal): Promise<SessionAnswer>;
}

/**
 * Clients that live long, one for each (owner, service, region): a client learns how far the local clock is off, and
 * signs accordingly. A new one for each call would be refused each time on a machine whose clock is wrong.
 */
export class AwsClients {
  readonly #env: NodeJS.ProcessEnv;
  readonly #transport: NodeHttpHandler;
  readonly #onAnswer: (answer: AwsAnswer) => void;
  readonly #held = new Map<string, HeldClient>(); // the one used last is last

  constructor(o: { env: NodeJS.ProcessEnv; transport: NodeHttpHandler; onAnswer: (answer: AwsAnswer) => void }) {
    this.#env = o.env;
    this.#transport = o.transport;
    this.#onAnswer = o.onAnswer;
  }

  /** `owner` tells identities apart: sessions of one are never used by another. */
  client(owner: string, service: AwsService, region: string): HeldClient {
    const key = JSON.stringify([owner, service, region]);
    const client = this.#held.get(key) ?? this.#create(service, region);
    this.#held.delete(key);
    this.#held.set(key, client);
    const [oldest] = this.#held.keys();
    if (this.#held.size > MOST_CLIENTS && oldest !== undefined) this.#held.delete(oldest);
    return client;
  }

  /** The transport as the credential providers use it, which make their own clients. */
  observedTransport(service: AwsService): ObservedTransport {
    return new ObservedTransport(this.#transport, service, this.#onAnswer);
  }

  #create(service: AwsService, region: string): HeldClient {
    const transport = this.observedTransport(service);
    const caller: Caller = { credentials: null };
    const config = {
      ...awsEndpoint(service, region, this.#env),
      requestHandler: transport,
      credentials: () => credentialsOf(caller),
      maxAttempts: Number(this.#env['AWS_MAX_ATTEMPTS']) || DEFAULT_ATTEMPTS,
    };
    return { transport, ...operations[service](config, caller) };
  }
}

const DEFAULT_ATTEMPTS = 3;
// Idle clients take some 20 KiB; keys that were rotated away leave theirs behind.
const MOST_CLIENTS = 500;

interface Caller {
  credentials: AwsCredentials | null;
}

// A client keeps what it was given until shortly before its expiration, for ever where it has none. One that has
// expired it asks for anew each time: so each call is signed by the session that was opened for it.
function credentialsOf({ credentials }: Caller): Promise<AwsCredentials> {
  if (!credentials) return Promise.reject(new TypeError('a client was used without credentials'));
  return Promise.resolve({ ...credentials, expiration: new Date(0) });
}

interface ClientConfig extends ReturnType<typeof awsEndpoint> {
  readonly requestHandler: ObservedTransport;
  readonly credentials: () => Promise<AwsCredentials>;
  readonly maxAttempts: number;
}

type Operations = Omit<HeldClient, 'transport'>;

const operations: Readonly<Record<AwsService, (config: ClientConfig, caller: Caller) => Operations>> = {
  ecr(config, caller) {
    const client = new ECRClient(config);
    return {
      assumeRole: notOffered,
      async getAuthorizationToken(credentials, abortSignal) {
        caller.credentials = credentials;
        // No registryIds: the token serves the registries of every account.
        const { authorizationData } = await client.send(new GetAuthorizationTokenCommand({}), { abortSignal });
        return authorizationData?.[0] ?? {};
      },
    };
  },
  'ecr-public'(config, caller) {
    const client = new ECRPUBLICClient(config);
    return {
      assumeRole: notOffered,
      async getAuthorizationToken(credentials, abortSignal) {
        caller.credentials = credentials;
        const { authorizationData } = await client.send(new GetPublicTokenCommand({}), { abortSignal });
        return authorizationData ?? {};
      },
    };
  },
  sts(config, caller) {
    const client = new STSClient(config);
    return {
      getAuthorizationToken: notOffered,
      async assumeRole(credentials, input, abortSignal) {
        caller.credentials = credentials;
        const { Credentials } = await client.send(new AssumeRoleCommand(input), { abortSignal });
        return Credentials ?? {};
      },
    };
  },
};

function notOffered(): Promise<never> {
  return Promise.reject(new TypeError('this service has no such operation'));
}
