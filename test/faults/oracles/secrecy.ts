const PIECE = 16; // bytes of a secret that nobody may find by chance

/**
 * Invariant 7: no secret in any output: raw, in base64 or URL-encoded, whole or a piece of 16 bytes. Which text holds one,
 * without telling the secret itself.
 */
export function leaks(texts: ReadonlyMap<string, string>, secrets: Iterable<string>): string[] {
  const pieces = new Set([...secrets].flatMap(formsOf).flatMap(piecesOf));
  return [...texts].flatMap(([name, text]) => {
    const at = firstPieceIn(text, pieces);
    return at < 0 ? [] : [`${name} holds a secret at ${at}: ${text.slice(Math.max(0, at - 80), at)}…`];
  });
}

// One look-up per character, however many pieces there are: all have the same length.
function firstPieceIn(text: string, pieces: ReadonlySet<string>): number {
  for (let at = 0; at + PIECE <= text.length; at++) {
    if (pieces.has(text.slice(at, at + PIECE))) return at;
  }
  return -1;
}

/** base64 in each of its three phases: a secret in the middle of a text is encoded by where it begins. */
function formsOf(secret: string): string[] {
  const phases = [0, 1, 2].map((pad) => {
    const encoded = Buffer.from('x'.repeat(pad) + secret).toString('base64');
    return encoded.slice(pad === 0 ? 0 : 4).replace(/.{0,4}$/, '');
  });
  const urlSafe = phases.map((text) => text.replaceAll('+', '-').replaceAll('/', '_'));
  return [secret, encodeURIComponent(secret), ...phases, ...urlSafe];
}

function piecesOf(form: string): string[] {
  if (form.length < PIECE) return [];
  const pieces: string[] = [];
  for (let at = 0; at + PIECE <= form.length; at += PIECE) pieces.push(form.slice(at, at + PIECE));
  return pieces;
}
