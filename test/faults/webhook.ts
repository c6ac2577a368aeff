import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import type { Cluster } from '../cluster/cluster.ts';
import { eventually } from '../cluster/eventually.ts';
import { operatorAccount, operatorUser } from '../cluster/operator.ts';
import { accountPath, secretPath } from '../cluster/served.ts';

export interface WebhookOptions {
  namespace: string;
  resource: 'secrets' | 'serviceaccounts';
  /** Denies with this code; else it never answers, or nobody listens. */
  answer: number | 'never' | 'away';
  timeoutSeconds?: number;
}

const name = 'guard.example.org';

/** A fail-closed admission webhook against what the operator writes to one kind in one namespace. */
export class Webhook {
  readonly #cluster: Cluster;
  readonly #server: Server;
  readonly #options: WebhookOptions;

  private constructor(cluster: Cluster, server: Server, options: WebhookOptions) {
    this.#cluster = cluster;
    this.#server = server;
    this.#options = options;
    server.on('request', (request, response) => {
      if (typeof options.answer !== 'number') return;
      void json(request).then((review) => deny(review, options.answer as number, response));
    });
  }

  /** Resolves when it is in force. */
  static async open(cluster: Cluster, options: WebhookOptions): Promise<Webhook> {
    const key = readFileSync(join(cluster.dir, 'certs/apiserver.key'));
    const server = createServer({ key, cert: cluster.ca });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const webhook = new Webhook(cluster, server, options);
    const { port } = server.address() as AddressInfo;
    if (options.answer === 'away') await webhook.#closeServer();
    await cluster.admin.create({
      ...{ apiVersion: 'admissionregistration.k8s.io/v1', kind: 'ValidatingWebhookConfiguration', metadata: { name } },
      webhooks: [webhook.#entry(port)],
    });
    await webhook.#untilInForce();
    return webhook;
  }

  async close(): Promise<void> {
    const path = `/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/${name}`;
    await this.#cluster.admin.delete(path);
    await this.#closeServer();
  }

  #entry(port: number): object {
    const { namespace, resource, timeoutSeconds = 10 } = this.#options;
    return {
      name,
      clientConfig: {
        url: `https://127.0.0.1:${port}/`,
        caBundle: Buffer.from(this.#cluster.ca).toString('base64'),
      },
      rules: [{ apiGroups: [''], apiVersions: ['v1'], resources: [resource], operations: ['CREATE', 'UPDATE'] }],
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
      matchConditions: [{ name: 'the-operator', expression: `request.userInfo.username == "${operatorUser}"` }],
      ...{ failurePolicy: 'Fail', sideEffects: 'None', timeoutSeconds, admissionReviewVersions: ['v1'] },
    };
  }

  /** Until a dry run of the operator's that changes nothing no longer passes. */
  async #untilInForce(): Promise<void> {
    const { namespace, resource } = this.#options;
    const path = resource === 'secrets' ? secretPath(namespace) : accountPath(namespace);
    const client = await this.#cluster.clientFor(operatorAccount);
    const options = { query: { dryRun: 'All' }, body: {}, contentType: 'application/merge-patch+json' };
    const isLetThrough = () =>
      client.request('PATCH', path, { ...options, timeoutMs: 1_000 }).then(
        ({ status }) => status === 200,
        () => false, // held up
      );
    await eventually('the webhook is in force', async () => !(await isLetThrough()));
  }

  async #closeServer(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function deny(review: unknown, code: number, response: ServerResponse): void {
  const { request } = review as { request: { uid: string } };
  const status = { code, message: 'nothing is to be written here' };
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(
    JSON.stringify({
      ...{ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' },
      response: { uid: request.uid, allowed: false, status },
    }),
  );
}
