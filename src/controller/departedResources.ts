import type { Clock } from '../clock.ts';
import type { ResourceView } from '../core/planNamespace.ts';

/** Why a resource that is no longer listed is not simply gone. */
type Departure = {
  readonly view: ResourceView;
  readonly crdUid: string | null; // under which it was known
  readonly at: number; // ms, monotonic
  /** It vanished together with its CRD: held until one of its name is back. */
  isVanished: boolean;
};

/**
 * Resources that were listed and no longer are. A deletion counts only when, after a delay, the CRD is the one under
 * which the resource was known: deleting a CRD deletes all its resources within milliseconds, and nobody who does that
 * by mistake wants every pull secret of the cluster gone.
 */
export class DepartedResources {
  readonly #departures = new Map<string, Departure>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  depart(view: ResourceView, crdUid: string | null): void {
    this.#departures.set(view.name, { view, crdUid, at: this.#clock.monotonic(), isVanished: false });
  }

  /** One of that name is there again. Returns how the former was read; undefined where there was none. */
  return(name: string): ResourceView | undefined {
    const view = this.#departures.get(name)?.view;
    this.#departures.delete(name);
    return view;
  }

  /** Those that must be treated as held: nothing of theirs is removed. */
  held(): ResourceView[] {
    return [...this.#departures.values()].map(({ view, isVanished }) => ({
      ...view,
      held: isVanished ? 'VanishedWithCrd' : 'Deleted',
    }));
  }

  /** Whether some wait for the decision that `settle` makes. */
  get hasUndecided(): boolean {
    return [...this.#departures.values()].some((departure) => !departure.isVanished);
  }

  /**
   * Decides about those that left at least `delayMs` ago, given the uid of the CRD as just read: null where it is
   * absent or terminating. Returns the views of those that are truly deleted; they are forgotten here.
   */
  settle(delayMs: number, crdUid: string | null): ResourceView[] {
    const deleted: ResourceView[] = [];
    for (const [name, departure] of this.#departures) {
      if (departure.isVanished || this.#clock.monotonic() - departure.at < delayMs) continue;
      if (crdUid === null || crdUid !== departure.crdUid) {
        departure.isVanished = true;
        continue;
      }
      this.#departures.delete(name);
      deleted.push(departure.view);
    }
    return deleted;
  }
}
