/** How a process ended; null while it runs. */
export type End = { readonly code: number | null; readonly signal: NodeJS.Signals | null } | null;

const ASKED_FOR: ReadonlySet<NodeJS.Signals> = new Set(['SIGKILL', 'SIGTERM']);

/**
 * Invariant 9: no process ends by itself, whoever goes on in its place, and none says that something went wrong in it: as
 * a line of its log, or past it, where it crashed.
 */
export function badEndings({ name, output, end }: { name: string; output: string; end: End }): string[] {
  const isGood = end === null || (end.signal === null ? end.code === 0 : ASKED_FOR.has(end.signal));
  return [
    ...(isGood ? [] : [`${name} ended by ${end?.signal ?? `exit code ${end?.code}`}`]),
    ...output.split('\n').flatMap((line) => (isComplaint(line) ? [`${name} said: ${line.slice(0, 500)}`] : [])),
  ];
}

function isComplaint(line: string): boolean {
  if (!line.startsWith('{')) return /^ecr-pull-secrets: |FATAL ERROR|^\w*(Error|Warning)\b/.test(line);
  try {
    const { level } = JSON.parse(line) as { level?: unknown };
    return level === 'error' || level === 'fatal';
  } catch {
    return false; // half a line: it was killed while it wrote
  }
}
