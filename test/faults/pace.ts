import { waitUntilServed } from '../cluster/served.ts';
import type { Endurance } from './endure.ts';
import type { Night } from './night.ts';

/** Namespaces that a fault does not touch are served at the speed of a run without it. */
export class Pace {
  readonly #night: Night;
  readonly #endurance: Endurance;
  readonly #usualMs: number;

  private constructor(night: Night, endurance: Endurance, usualMs: number) {
    this.#night = night;
    this.#endurance = endurance;
    this.#usualMs = usualMs;
  }

  /** Measures a round without any fault. */
  static async of(night: Night, endurance: Endurance): Promise<Pace> {
    let usualMs = Infinity;
    const during = async () => {
      const from = performance.now();
      await waitUntilServed(night.admin, endurance.namespaces);
      usualMs = performance.now() - from;
    };
    const broken = await endurance.under(() => () => undefined, { lastsMs: 0, during });
    if (broken.length > 0) throw new Error(`without any fault: ${broken.join('; ')}`);
    return new Pace(night, endurance, usualMs);
  }

  /** In `during` of a fault: all but these are served, what life has just broken too, in three times the usual and a second. */
  async isKept(but: readonly string[]): Promise<void> {
    const others = this.#endurance.namespaces.filter((name) => !but.includes(name));
    await waitUntilServed(this.#night.admin, others, this.#usualMs * 3 + 1_000);
  }
}
