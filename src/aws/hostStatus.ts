import type { Life } from '../core/refreshTime.ts';
import type { AuthorizationToken } from './authorizationToken.ts';
import type { Failure } from './hostPublication.ts';
import type { TokenRefresher } from './tokenRefresher.ts';

export type HostToken =
  | { readonly state: 'usable'; readonly auth: string; readonly issuedAt: Date; readonly expiresAt: Date }
  /** `expiresAt`, here and above, is the end of life as the wants count it, on the server's clock. */
  | { readonly state: 'expired'; readonly auth: string; readonly expiresAt: Date }
  | { readonly state: 'unknown' };

export interface HostStatus {
  readonly token: HostToken;
  readonly lastRefreshTime: Date | null; // of the published token
  readonly nextRefreshTime: Date | null;
  readonly failure: Failure | null; // of the last refresh or check; null after a success
  readonly isUnconfirmed: boolean; // a token of an earlier run: failure and note are not known before its check
  readonly note: string | null; // what is no failure, e.g. 'not checked: …'
}

/** What is known of one host of a token. */
export function hostStatusOf(refresher: TokenRefresher, host: string): HostStatus {
  const publication = refresher.publication(host);
  if (!publication) return UNKNOWN_HOST;
  const { published, isExpired } = publication;
  const life = published && refresher.lifeOf(published);
  const next = refresher.nextAttemptAt();
  return {
    token: hostToken(published, life, isExpired),
    lastRefreshTime: published?.issuedAt ?? null,
    nextRefreshTime: next === null ? null : new Date(next),
    isUnconfirmed: publication.isUnconfirmed,
    failure: refresher.failure ?? publication.failure,
    note: joined(life?.note ?? null, publication.note),
  };
}

/** Of a host that nobody has named. */
export const UNKNOWN_HOST: HostStatus = {
  token: { state: 'unknown' },
  lastRefreshTime: null,
  nextRefreshTime: null,
  isUnconfirmed: false,
  failure: null,
  note: null,
};

function hostToken(token: AuthorizationToken | null, life: Life | null, isExpired: boolean): HostToken {
  if (!token || !life) return { state: 'unknown' };
  const { auth, issuedAt } = token;
  const expiresAt = life.endOfLife;
  return isExpired ? { state: 'expired', auth, expiresAt } : { state: 'usable', auth, issuedAt, expiresAt };
}

function joined(...notes: readonly (string | null)[]): string | null {
  return notes.filter((note) => note !== null).join('; ') || null;
}
