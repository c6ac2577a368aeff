const PIECE = 16; // bytes of a secret that nobody may find by chance
const STEP = PIECE / 2; // each run of PIECE bytes holds a whole one of these, wherever it begins

/**
 * Invariant 7: no secret in any output: raw, in base64 or URL-encoded, whole or a piece of 16 bytes. Which text holds one,
 * without telling the secret itself.
 */
export function leaks(texts: ReadonlyMap<string, string>, secrets: Iterable<string>): string[] {
  const places = placesIn([...secrets].flatMap(formsOf));
  return [...texts].flatMap(([name, text]) => {
    const at = firstPieceIn(text, places);
    return at < 0 ? [] : [`${name} holds a secret at ${at}: ${text.slice(Math.max(0, at - 80), at)}…`];
  });
}

interface Place {
  readonly form: string;
  readonly at: number;
}

/** Every eighth eight bytes of each form, and where they stand. */
function placesIn(forms: readonly string[]): ReadonlyMap<string, readonly Place[]> {
  const places = new Map<string, Place[]>();
  for (const form of forms) {
    if (form.length < PIECE) continue;
    for (let at = 0; at + STEP <= form.length; at += STEP) {
      const step = form.slice(at, at + STEP);
      places.set(step, [...(places.get(step) ?? []), { form, at }]);
    }
  }
  return places;
}

// One look-up per character, however many pieces there are: all have the same length.
function firstPieceIn(text: string, places: ReadonlyMap<string, readonly Place[]>): number {
  for (let at = 0; at + STEP <= text.length; at++) {
    for (const place of places.get(text.slice(at, at + STEP)) ?? []) {
      const begin = at - alike(text, at, place, -1);
      const end = at + STEP + alike(text, at + STEP, { form: place.form, at: place.at + STEP }, 1);
      if (end - begin >= PIECE) return begin;
    }
  }
  return -1;
}

/** How many characters before or after are the same, as far as it matters. */
function alike(text: string, at: number, place: Place, step: -1 | 1): number {
  const first = step === 1 ? 0 : -1;
  let count = 0;
  while (count < STEP) {
    const offset = first + count * step;
    const character = text[at + offset];
    if (character === undefined || character !== place.form[place.at + offset]) break;
    count += 1;
  }
  return count;
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
