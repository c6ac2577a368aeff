/**
 * Whether `text` matches `pattern`, in which `*` stands for any number of characters and nothing else is special.
 * By hand, since a RegExp made of a pattern with many stars takes exponential time: this goes back to the last star
 * only, so its cost is bounded by the product of the two lengths.
 */
export function matchesGlob(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1; // where the last star stands
  let resume = 0; // the text position that the last star is tried up to
  while (t < text.length) {
    if (pattern[p] === '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.length && pattern[p] === text[t]) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}

/** Names to take and names to leave; `exclude` always wins. */
export interface NamePatterns {
  readonly names: readonly string[];
  readonly exclude: readonly string[];
}

export function matchesName(patterns: NamePatterns, name: string): boolean {
  return (
    patterns.names.some((glob) => matchesGlob(glob, name)) && !patterns.exclude.some((glob) => matchesGlob(glob, name))
  );
}
