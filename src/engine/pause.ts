/** What becomes of requests in progress: ended, waited for, or kept where they are. */
export type PauseMode = "abort" | "wait" | "keep";

export const pauseModes: readonly PauseMode[] = ["abort", "wait", "keep"];

/** A stop of the engine, with the requests that came since. */
export class Pause {
  readonly mode: PauseMode;
  readonly #arrivals: (() => void)[] = [];

  constructor(mode: PauseMode) {
    this.mode = mode;
  }

  /** `enter` lets the request in once the engine goes on. */
  defer(enter: () => void): void {
    this.#arrivals.push(enter);
  }

  get numDeferred(): number {
    return this.#arrivals.length;
  }

  release(): void {
    for (const enter of this.#arrivals.splice(0)) enter();
  }
}
