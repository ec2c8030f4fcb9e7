import { toUcmError, UcmError } from "../errors/index.js";
import type { Executor, RecoveringExecutor } from "./types.js";

/** What becomes of the requests when the wait for other workers is over. */
export interface RecoveryEnd {
  /** Other workers are there. */
  resume(): void;
  /** There will be none. */
  giveUp(reason: UcmError): void;
}

/** The loss of the workers, and the wait for others. */
export class WorkerLoss {
  /** Null when lost workers are not replaced. */
  readonly #executor: RecoveringExecutor | null;
  #failure: UcmError | null = null;
  #recovery: Promise<void> | null = null;

  constructor(executor: Executor, onLost: (error: UcmError) => void) {
    this.#executor = canRecover(executor) ? executor : null;
    this.#executor?.onLost(onLost);
  }

  /** Why no step can run: the workers are lost, and others not there yet, or never. */
  get failure(): UcmError | null {
    return this.#failure;
  }

  get canRecover(): boolean {
    return this.#executor !== null;
  }

  /** Resolves, if there is a wait for other workers, when it is over. */
  get settled(): Promise<void> | null {
    return this.#recovery;
  }

  /** @throws UcmError UCM_ERR_RESTARTING during the wait; why the workers were lost, when it is over. */
  requireWorkers(): void {
    if (this.#recovery !== null) {
      throw new UcmError(
        "UCM_ERR_RESTARTING",
        "The model is being started again and takes no requests meanwhile. Please retry later.",
      );
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /** From now on there are no workers; what clients are told of it. */
  note(error: UcmError): UcmError {
    this.#failure = firstLine(error);
    return this.#failure;
  }

  /** Waits for other workers, and for `loop`, which still runs a step of the lost ones. */
  recover(error: UcmError, loop: Promise<void> | null, end: RecoveryEnd): void {
    const wait = async () => {
      try {
        await this.#executor?.recover(error);
        await loop;
        this.#failure = null;
        end.resume();
      } catch (final) {
        end.giveUp(this.note(toUcmError(final)));
      } finally {
        this.#recovery = null;
      }
    };
    this.#recovery = wait();
  }
}

function canRecover(executor: Executor): executor is RecoveringExecutor {
  return "recover" in executor;
}

/** What follows the first line of a worker's death are its last words, which clients do not need. */
function firstLine(error: UcmError): UcmError {
  const [line = ""] = error.message.split("\n", 1);
  return line === error.message ? error : new UcmError(error.code, line);
}
