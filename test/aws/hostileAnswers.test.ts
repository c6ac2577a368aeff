import { pipeline, Readable, type Writable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { AuthorizationTokenSource, type TokenRequest } from '../../src/aws/authorizationToken.ts';
import { systemClock } from '../../src/clock.ts';
import { TransientError } from '../../src/errors.ts';
import { memoryGrowth } from '../memoryGrowth.ts';
import { AwsServer, tokenAnswer, type Answer } from './awsServer.ts';

// Whatever answers in the place of AWS cannot fill the operator's memory, nor hold its event loop.

const MOST_BYTES = 20 * 1024 * 1024;
const keys = { kind: 'accessKey', secretName: 'aws', accessKeyId: 'AKIA', secretAccessKey: 'secret' } as const;
const request: TokenRequest = { identity: { source: keys, chain: [] }, service: 'ecr', region: 'eu-west-1' };
const chained = { ...request, identity: { source: keys, chain: [{ roleArn: 'arn:aws:iam::012345678901:role/pull' }] } };

/** As fast as it is read, until nobody reads. */
function pour(to: Writable, piece: Buffer): void {
  const pieces = Readable.from(endless(piece), { objectMode: false });
  pipeline(pieces, to, () => {});
}

function* endless(piece: Buffer): Generator<Buffer> {
  for (;;) yield piece;
}

const piece = Buffer.alloc(64 * 1024, ' ');
const bomb = gzipSync(Buffer.alloc(50_000_000, ' '));
const json = { 'content-type': 'application/x-amz-json-1.1' };
const answers: readonly [what: string, answer: Answer][] = [
  ['a body without end', (_, response) => pour(response.writeHead(200, json), piece)],
  ['a refusal without end', (_, response) => pour(response.writeHead(400, json), piece)],
  ['a fault without end', (_, response) => pour(response.writeHead(500, json), piece)],
  [
    'a claim of a gigabyte, and as much of it as is read',
    (_, response) => pour(response.writeHead(200, { ...json, 'content-length': String(2 ** 30) }), piece),
  ],
  [
    'a claim of a gigabyte, and an end after a little',
    (_, response) => {
      response.writeHead(200, { ...json, 'content-length': String(2 ** 30) }).write('{');
      setTimeout(() => response.destroy(), 20);
    },
  ],
  ['a gzip bomb', (_, response) => void response.writeHead(200, { ...json, 'content-encoding': 'gzip' }).end(bomb)],
  [
    'headers without end',
    (_, { socket }) => socket && pour(socket, Buffer.from(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(60_000)}`)),
  ],
  [
    'a header of a megabyte',
    (_, { socket }) => void socket?.end(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(2 ** 20)}\r\n\r\n`),
  ],
  ['ten thousand headers', (_, { socket }) => void socket?.end(`HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(10_000)}\r\n`)],
  ['lists in lists', (_, response) => void response.writeHead(200, json).end('['.repeat(200_000))],
  [
    'objects in objects',
    (_, response) => void response.writeHead(200, json).end('{"authorizationData":'.repeat(10_000)),
  ],
  ['a token of megabytes', tokenAnswer({ token: Buffer.from(`AWS:${'x'.repeat(8_000_000)}`).toString('base64') })],
];

function sourceOf(env: NodeJS.ProcessEnv): AuthorizationTokenSource {
  const ignore = (): void => {};
  const log = { debug: ignore, info: ignore, warn: ignore, error: ignore } as never;
  const metrics = { awsRequest: ignore };
  // One try, else the SDK's own retries are what is measured.
  return new AuthorizationTokenSource({
    env: { ...env, AWS_MAX_ATTEMPTS: '1' },
    clock: systemClock,
    log,
    metrics,
    redactor: { add: ignore },
  });
}

describe.each([
  ['ECR', 'GetAuthorizationToken', request],
  ['STS', 'AssumeRole', chained],
] as const)('%s that answers with', (_, operation, asked) => {
  it.each(answers)('%s: it is an error within 2 s and 20 MB', async (_, answer) => {
    await using aws = await AwsServer.start();
    aws.answers[operation] = answer;
    const source = sourceOf(aws.env);
    let error: unknown;
    const started = performance.now();
    const growth = await memoryGrowth(async () => {
      error = await source.fetch(asked, new AbortController().signal).catch((reason: unknown) => reason);
    });
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(error).toBeInstanceOf(TransientError);
    expect((error as Error).message.length).toBeLessThan(500);
    expect(growth).toBeLessThan(MOST_BYTES);
  });
});
