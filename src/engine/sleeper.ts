import { UcmError } from "../errors/index.js";
import type { Executor, SleepingExecutor } from "./types.js";

/** Whether an engine has workers, and the moves between the two, one at a time. */
export class Sleeper {
  readonly #executor: SleepingExecutor | null;
  #isAsleep = false;
  #move: Promise<void> = Promise.resolve();

  /** An executor whose workers cannot be ended keeps them; requests wait all the same. */
  constructor(executor: Executor) {
    this.#executor = canSleep(executor) ? executor : null;
  }

  get isAsleep(): boolean {
    return this.#isAsleep;
  }

  /** Resolves when no move is under way. */
  get settled(): Promise<void> {
    return this.#move;
  }

  /** `prepare` sees to it that no step runs, or throws; `forget` what the workers had. */
  fallAsleep(prepare: () => Promise<void>, forget: () => void): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#isAsleep) return;
      await prepare();
      this.#isAsleep = true;
      await this.#executor?.sleep();
      forget();
    });
  }

  wakeUp(goOn: () => void): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#isAsleep) await this.#executor?.wakeUp();
      this.#isAsleep = false;
      goOn();
    });
  }

  /** @throws UcmError UCM_ERR_INVALID_REQUEST while it is asleep. */
  requireAwake(): void {
    if (!this.#isAsleep) return;
    throw new UcmError("UCM_ERR_INVALID_REQUEST", "The engine sleeps: POST /wake_up first.");
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#move.then(work);
    this.#move = done.catch(() => {});
    return done;
  }
}

function canSleep(executor: Executor): executor is SleepingExecutor {
  return "sleep" in executor;
}

/** Why an engine with requests that stand still does not fall asleep. */
export function keepsRequests(): UcmError {
  return new UcmError(
    "UCM_ERR_INVALID_REQUEST",
    "Requests stand still under /pause?mode=keep, and sleep would lose what they have computed: POST /resume first.",
  );
}
