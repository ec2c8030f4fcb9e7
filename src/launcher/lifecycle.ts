import { UcmError } from "../errors/index.js";

/** What may follow what in the life of a server's workers. */
const successors = {
  /** Processes start and load. */
  spawn: ["ready", "failed", "asleep", "draining"],
  /** Loaded; no step has been computed yet. */
  ready: ["serving", "failed", "asleep", "draining"],
  serving: ["failed", "asleep", "draining"],
  /** Ended on request, until they are asked for again. */
  asleep: ["spawn", "draining"],
  /** None is left; the next start waits its turn. */
  failed: ["spawn", "draining", "stopped"],
  /** Finishes what is under way; what is lost from now on is not replaced. */
  draining: ["stopped"],
  stopped: [],
} as const satisfies Record<string, readonly string[]>;

export type LifecycleState = keyof typeof successors;

/** The state of a server's workers, which moves along the table alone. */
export class Lifecycle {
  #state: LifecycleState = "spawn";

  get state(): LifecycleState {
    return this.#state;
  }

  can(next: LifecycleState): boolean {
    return (successors[this.#state] as readonly LifecycleState[]).includes(next);
  }

  /** @throws UcmError UCM_ERR_INTERNAL for a move that the table does not have. */
  to(next: LifecycleState): void {
    if (!this.can(next)) {
      throw new UcmError("UCM_ERR_INTERNAL", `Workers cannot go from ${this.#state} to ${next}.`);
    }
    this.#state = next;
  }
}
