// How AWS speaks over HTTP: JSON 1.1 for ECR and ECR Public, a form and XML for STS.
import type { IncomingMessage, ServerResponse } from 'node:http';

export type AwsService = 'ecr' | 'ecr-public' | 'sts';

/** A request as AWS reads it. */
export interface AwsRequest {
  readonly service: AwsService; // whose port was asked
  readonly operation: string;
  readonly region: string; // of the signature's scope, as is signedFor; '' where it is not signed
  readonly signedFor: string;
  readonly accessKeyId: string; // '' where it is not signed
  readonly sessionToken: string | undefined;
  readonly signedAt: number | null; // ms
  readonly parameters: ReadonlyMap<string, string>; // of STS
}

const TARGETS: Readonly<Record<AwsService, string>> = {
  ecr: 'AmazonEC2ContainerRegistry_V20150921',
  'ecr-public': 'SpencerFrontendService',
  sts: '',
};

export async function readAwsRequest(service: AwsService, incoming: IncomingMessage): Promise<AwsRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const { headers } = incoming;
  const credential = /Credential=([^,\s]+)/.exec(headers.authorization ?? '')?.[1] ?? '';
  const [accessKeyId = '', , region = '', signedFor = ''] = credential.split('/');
  const [target = '', operation = ''] = String(headers['x-amz-target'] ?? '').split('.');
  const parameters = service === 'sts' ? new URLSearchParams(Buffer.concat(chunks).toString()) : new URLSearchParams();
  const isKnown = service === 'sts' || target === TARGETS[service];
  return {
    ...{ service, region, signedFor, accessKeyId, parameters: new Map(parameters) },
    operation: service === 'sts' ? (parameters.get('Action') ?? '') : isKnown ? operation : '',
    sessionToken: one(headers['x-amz-security-token']),
    signedAt: basicIsoTime(one(headers['x-amz-date'])),
  };
}

/** An error's name, which ECR and STS spell differently, its HTTP status and text. */
export interface AwsFailure {
  readonly error: string;
  readonly status: number;
  readonly message: string;
  readonly retryAfter?: number; // s
}

export function sendFailure(service: AwsService, response: ServerResponse, failure: AwsFailure): void {
  const { error, status, message, retryAfter } = failure;
  if (retryAfter !== undefined) response.setHeader('retry-after', retryAfter);
  if (service !== 'sts') return sendJson(response, { __type: error, message }, status);
  sendXml(
    response,
    `<ErrorResponse xmlns="${STS_NAMESPACE}"><Error><Type>Sender</Type><Code>${escape(error)}</Code><Message>${escape(message)}</Message></Error><RequestId>${REQUEST_ID}</RequestId></ErrorResponse>`,
    status,
  );
}

export function sendJson(response: ServerResponse, body: object, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1', 'x-amzn-requestid': REQUEST_ID });
  response.end(JSON.stringify(body));
}

type XmlTree = { readonly [name: string]: string | XmlTree };

/** The answer of an operation of STS. */
export function sendStsResult(response: ServerResponse, operation: string, result: XmlTree): void {
  const metadata = `<ResponseMetadata><RequestId>${REQUEST_ID}</RequestId></ResponseMetadata>`;
  const inner = `<${operation}Result>${xml(result)}</${operation}Result>${metadata}`;
  sendXml(response, `<${operation}Response xmlns="${STS_NAMESPACE}">${inner}</${operation}Response>`, 200);
}

export function sendHtml(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8' });
  response.end('<!doctype html><html><head><title>Sign in</title></head><body>Sign in to the network.</body></html>');
}

const STS_NAMESPACE = 'https://sts.amazonaws.com/doc/2011-06-15/';
const REQUEST_ID = '00000000-0000-4000-8000-000000000000';

function sendXml(response: ServerResponse, text: string, status: number): void {
  response.writeHead(status, { 'content-type': 'text/xml', 'x-amzn-requestid': REQUEST_ID });
  response.end(text);
}

function xml(tree: XmlTree): string {
  return Object.entries(tree)
    .map(([name, value]) => `<${name}>${typeof value === 'string' ? escape(value) : xml(value)}</${name}>`)
    .join('');
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function one(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

// 20261125T010203Z
function basicIsoTime(text = ''): number | null {
  const iso = text.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z');
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? null : ms;
}
