/** What becomes of requests in progress: ended, waited for, or kept where they are. */
export type PauseMode = "abort" | "wait" | "keep";

export const pauseModes: readonly PauseMode[] = ["abort", "wait", "keep"];

/** A stop of the engine, with the requests that came since. */
export class Pause {
  readonly mode: PauseMode;
  readonly #arrivals = new Map<object, () => void>();

  constructor(mode: PauseMode) {
    this.mode = mode;
  }

  /** `enter` lets the request in once the engine goes on. */
  defer(request: object, enter: () => void): void {
    this.#arrivals.set(request, enter);
  }

  /** Of a request that ended meanwhile: it waits no more. */
  forget(request: object): void {
    this.#arrivals.delete(request);
  }

  get numDeferred(): number {
    return this.#arrivals.size;
  }

  release(): void {
    for (const enter of this.#arrivals.values()) enter();
  }
}
