import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Asks again every 50 ms until the answer is truthy, and returns it. An error of the question counts as "not yet": it is
 * told when the time (ms) is over, together with `what` was waited for.
 */
export async function eventually<T>(
  what: string,
  question: () => Promise<T> | T,
  timeoutMs = 30_000,
): Promise<Exclude<T, null | undefined | false | 0 | ''>> {
  const deadline = performance.now() + timeoutMs;
  let last = 'the answer stayed empty';
  for (;;) {
    try {
      const answer = await question();
      if (answer) return answer as Exclude<T, null | undefined | false | 0 | ''>;
      last = `the answer stayed ${JSON.stringify(answer)}`;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs / 1000} s: ${what} (${last})`);
    await sleep(50);
  }
}
