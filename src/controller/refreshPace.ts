/** The token that namespaces still hold while a new one is on its way to them. */
export interface FormerToken {
  readonly issuedAt: number; // ms, on the server's clock
  readonly endsAt: number; // ms
}

/**
 * How many namespaces a second may be refreshed: the configured rate; more where the queue would not be empty within a
 * tenth of the life that the former tokens have left; as many as the server takes below a quarter of their life.
 */
export function refreshPace(
  configured: number,
  { waiting, former, now }: { waiting: number; former: Iterable<FormerToken>; now: number },
): number {
  let pace = configured;
  for (const { issuedAt, endsAt } of former) {
    const leftMs = endsAt - now;
    if (leftMs < (endsAt - issuedAt) / 4) return Infinity;
    pace = Math.max(pace, waiting / (leftMs / 10 / 1_000));
  }
  return pace;
}
