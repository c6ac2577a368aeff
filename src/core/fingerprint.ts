import { createHash } from 'node:crypto';

/**
 * A name for a value that tells nothing of it: sha256 in hex over its JSON. Equal values of equal shape give equal
 * names; for secrets use it only on what has enough randomness of its own, as AWS keys have.
 */
export function fingerprint(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex');
}
