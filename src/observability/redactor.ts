// Below this length a "secret" is more likely a word, and its removal would make every line unreadable.
const SHORTEST_SECRET = 8;
const ANCHOR = 8; // characters by which a piece is found
// A text that was cut may end within a secret: so many characters in agreement are taken for it.
const SHORTEST_CUT = 24;
// Tokens follow each other for years: the oldest are dead long before this many have been seen.
const MOST_SECRETS = 4096;

const REPLACEMENT = '[redacted]';

/**
 * Takes live secrets out of texts, by value: wherever one lands (a cause, a header, a nested copy), and however it is
 * written (as is, base64, also as a part of a longer base64 text, URL-encoded, escaped in JSON). The cost is that of
 * one look-up per character of the text, whatever the number of secrets.
 */
export class Redactor {
  // Pieces by their first ANCHOR characters, each with the number of secrets that have it. Tokens of ECR begin alike,
  // so there may be many of one anchor.
  readonly #pieces = new Map<string, Map<string, number>>();
  readonly #counts = new Map<string, number>(); // a secret that was added twice is removed twice

  add(secret: string): void {
    if (secret.length < SHORTEST_SECRET) return;
    const count = this.#counts.get(secret) ?? 0;
    this.#counts.set(secret, count + 1);
    if (count > 0) return;
    for (const piece of piecesOf(secret)) this.#count(piece, 1);
    this.#dropOldest();
  }

  remove(secret: string): void {
    const count = this.#counts.get(secret) ?? 0;
    if (count > 1) this.#counts.set(secret, count - 1);
    else if (count === 1) this.#forget(secret);
  }

  redact(text: string): string {
    if (this.#pieces.size === 0) return text;
    let redacted = '';
    let copiedTo = 0;
    for (let at = 0; at + ANCHOR <= text.length; at++) {
      const siblings = this.#pieces.get(text.slice(at, at + ANCHOR));
      const length = siblings ? longestAt(text, at, siblings.keys()) : 0;
      if (length === 0) continue;
      redacted += text.slice(copiedTo, at) + REPLACEMENT;
      copiedTo = at + length;
      at = copiedTo - 1;
    }
    return copiedTo === 0 ? text : redacted + text.slice(copiedTo);
  }

  #dropOldest(): void {
    const [oldest] = this.#counts.keys();
    if (this.#counts.size > MOST_SECRETS && oldest !== undefined) this.#forget(oldest);
  }

  #forget(secret: string): void {
    this.#counts.delete(secret);
    for (const piece of piecesOf(secret)) this.#count(piece, -1);
  }

  #count(piece: string, change: 1 | -1): void {
    const anchor = piece.slice(0, ANCHOR);
    const siblings = this.#pieces.get(anchor) ?? new Map<string, number>();
    const count = (siblings.get(piece) ?? 0) + change;
    if (count > 0) siblings.set(piece, count);
    else siblings.delete(piece);
    if (siblings.size > 0) this.#pieces.set(anchor, siblings);
    else this.#pieces.delete(anchor);
  }
}

function longestAt(text: string, at: number, pieces: Iterable<string>): number {
  let longest = 0;
  for (const piece of pieces) {
    const common = commonLength(text, at, piece);
    if ((common === piece.length || common >= SHORTEST_CUT) && common > longest) longest = common;
  }
  return longest;
}

function commonLength(text: string, at: number, piece: string): number {
  let length = 0;
  while (length < piece.length && at + length < text.length && text[at + length] === piece[length]) length++;
  return length;
}

function piecesOf(secret: string): Set<string> {
  const secrets = [secret, ...passwordOf(secret)];
  return new Set(secrets.flatMap(formsOf).filter((piece) => piece.length >= SHORTEST_SECRET));
}

// An authorization token is base64 of `user:password`; the password alone is as good as the whole.
function passwordOf(secret: string): string[] {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(secret)) return [];
  const [, password] = /^[\x21-\x39\x3b-\x7e]+:([\x20-\x7e]+)$/.exec(Buffer.from(secret, 'base64').toString()) ?? [];
  return password === undefined ? [] : [password];
}

function formsOf(secret: string): string[] {
  const json = JSON.stringify(secret).slice(1, -1);
  return [secret, json, encodeURIComponent(secret), ...base64Forms(secret)];
}

// Within a longer text the secret begins at any of three positions of base64's groups; characters that also depend on
// the neighbours are left out.
function base64Forms(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const within = [0, 1, 2].map((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64');
    const end = Math.floor(((offset + bytes.length) * 8) / 6); // characters made of these bytes alone
    return text.slice([0, 2, 3][offset], end);
  });
  return [bytes.toString('base64'), ...within];
}
