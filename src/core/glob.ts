/**
 * Whether `text` matches `pattern`, in which `*` stands for any number of characters and nothing else is special.
 * By hand, since a RegExp made of a pattern with many stars takes exponential time: between the first star and the last
 * each part is looked for from where the one before it ends, so nothing is tried twice.
 */
export function matchesGlob(pattern: string, text: string): boolean {
  const first = pattern.indexOf('*');
  if (first < 0) return pattern === text;
  const last = pattern.lastIndexOf('*');
  const end = text.length - (pattern.length - last - 1); // where what stands behind the last star begins
  if (end < first || !text.startsWith(pattern.slice(0, first)) || !text.endsWith(pattern.slice(last + 1))) return false;
  let from = first;
  for (let star = first; star < last;) {
    const next = pattern.indexOf('*', star + 1);
    const part = pattern.slice(star + 1, next);
    const at = text.indexOf(part, from);
    if (at < 0 || at + part.length > end) return false;
    from = at + part.length;
    star = next;
  }
  return true;
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

const MOST_GLOBS = 500; // more than two specs may have

/**
 * As much of it as is recorded on a Secret and read from there: whoever may edit that one could else write a list whose
 * comparison with the ServiceAccounts of the namespace takes minutes.
 */
export function boundedPatterns(patterns: readonly NamePatterns[]): NamePatterns[] {
  let left = MOST_GLOBS;
  return patterns.filter(({ names, exclude }) => (left -= 1 + names.length + exclude.length) >= 0);
}
