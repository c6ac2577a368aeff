import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { TokenState } from './issuedTokens.ts';

/** What ECR Public does in the place of Basic: a token for a token, or for nothing; but none for one that has expired. */
export class BearerTokens {
  readonly #given = new Set<string>();

  answer(shown: TokenState | 'none', response: ServerResponse): void {
    const isGiven = shown === 'live' || shown === 'none';
    response.writeHead(isGiven ? 200 : 400, { 'content-type': 'application/json' });
    if (!isGiven) {
      response.end(JSON.stringify({ errors: [{ code: 'DENIED', message: 'Your authorization token has expired.' }] }));
      return;
    }
    const token = randomBytes(60).toString('base64url');
    this.#given.add(token);
    response.end(JSON.stringify({ token }));
  }

  accepts(authorization: string): boolean {
    return this.#given.has(authorization.replace(/^Bearer /, ''));
  }
}

export function isPublicHost(host: string): boolean {
  return ['public.ecr.aws', 'ecr-public.aws.com'].includes(host);
}
