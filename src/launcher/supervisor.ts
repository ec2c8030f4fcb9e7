import { setTimeout as sleep } from "node:timers/promises";
import type { EngineConfig } from "../config/engine-config.js";
import type { RecoveringExecutor, SleepingExecutor } from "../engine/types.js";
import { toUcmError, UcmError } from "../errors/index.js";
import { log } from "../log/index.js";
import type { ReadyMessage, StepMessage, StepResultMessage, TokenMask } from "../messages/index.js";
import { type LaunchOptions, launchWorkers, type WorkerGroup } from "./launch.js";
import { Lifecycle } from "./lifecycle.js";
import type { StopPatience } from "./worker-process.js";

/** When workers that were lost are started again. */
export interface RestartPolicy {
  /** Pause before the first restart; each one that fails doubles it. */
  firstPauseMs: number;
  longestPauseMs: number;
  /** Groups in a row that were lost before they computed a step: then it is a crash loop. */
  maxFailures: number;
}

const defaultPolicy: RestartPolicy = {
  firstPauseMs: 1_000,
  longestPauseMs: 60_000,
  maxFailures: 8,
};

export interface SupervisorOptions extends LaunchOptions {
  restart?: Partial<RestartPolicy>;
}

/**
 * The workers of a server over its whole life: starts a group, replaces one that is lost by a new one
 * after a pause, gives up when they keep failing. All its states and moves are in {@link Lifecycle}.
 */
export class Supervisor implements RecoveringExecutor, SleepingExecutor {
  readonly #config: EngineConfig;
  readonly #options: SupervisorOptions;
  readonly #policy: RestartPolicy;
  readonly #lifecycle = new Lifecycle();
  /** Ends the wait for a restart, and one that is under way. */
  readonly #stopping = new AbortController();
  #group: WorkerGroup | null = null;
  #numFailures = 0;
  #recovery: Promise<void> = Promise.resolve();
  #onLost: (error: UcmError) => void = () => {};
  #onGiveUp: (error: UcmError) => void = () => {};

  private constructor(config: EngineConfig, options: SupervisorOptions) {
    this.#config = config;
    this.#options = options;
    this.#policy = { ...defaultPolicy, ...options.restart };
  }

  /** Rejects when the first group cannot be started: its error will not pass by itself. */
  static async start(config: EngineConfig, options: SupervisorOptions = {}): Promise<Supervisor> {
    const supervisor = new Supervisor(config, options);
    await supervisor.#spawn(options.signal);
    return supervisor;
  }

  /** What rank 0 of the present group said of itself, with the loading time of the slowest. */
  get ready(): ReadyMessage {
    return this.#group!.ready;
  }

  async execute(
    step: StepMessage,
    masks: Promise<TokenMask[]> | null = null,
  ): Promise<StepResultMessage> {
    const result = await this.#group!.executor.execute(step, masks);
    if (this.#lifecycle.state === "ready") this.#lifecycle.to("serving");
    return result;
  }

  onLost(listener: (error: UcmError) => void): void {
    this.#onLost = listener;
  }

  async recover(error: UcmError): Promise<void> {
    this.#lose(error);
    if (this.#stopping.signal.aborted) throw error;
    await this.#recovery;
  }

  async sleep(): Promise<void> {
    this.#lifecycle.to("asleep");
    await this.#group!.shutdown();
  }

  /** Rejects when the workers cannot be started; they are asleep then as before. */
  async wakeUp(): Promise<void> {
    this.#lifecycle.to("spawn");
    try {
      await this.#spawn(this.#stopping.signal);
    } catch (error) {
      if (this.#lifecycle.can("asleep")) this.#lifecycle.to("asleep");
      throw error;
    }
  }

  /** Called once, when there will be no more workers because they keep failing. */
  onGiveUp(callback: (error: UcmError) => void): void {
    this.#onGiveUp = callback;
  }

  /** Steps go on; workers that are lost from now on are not replaced. */
  drain(): void {
    if (this.#lifecycle.can("draining")) this.#lifecycle.to("draining");
    this.#stopping.abort(new UcmError("UCM_ERR_SHUTTING_DOWN", "The server is shutting down."));
  }

  async shutdown(patience?: StopPatience): Promise<void> {
    this.drain();
    await this.#recovery.catch(() => {});
    await this.#group?.shutdown(patience);
    if (this.#lifecycle.can("stopped")) this.#lifecycle.to("stopped");
  }

  /** SIGKILL to all workers, for a process that leaves at once. */
  kill(): void {
    this.drain();
    this.#group?.kill();
  }

  async #spawn(signal: AbortSignal | undefined): Promise<void> {
    const group = await launchWorkers(this.#config, { ...this.#options, signal });
    if (!this.#lifecycle.can("ready")) {
      // Told to end at the moment it was ready.
      await group.shutdown({ messageMs: 0, signalMs: 0 });
      throw new UcmError("UCM_ERR_SHUTTING_DOWN", "The server is shutting down.");
    }
    this.#group = group;
    this.#lifecycle.to("ready");
    group.onExit((error) => this.#lose(error));
  }

  /** Called for a group that has lost a worker, and by the engine for one that it cannot trust. */
  #lose(error: UcmError): void {
    const { state } = this.#lifecycle;
    if (state !== "ready" && state !== "serving") {
      // Nothing follows a loss while draining, but who waits for a step must know.
      if (state === "draining") this.#onLost(error);
      return;
    }
    this.#lifecycle.to("failed");
    this.#numFailures = state === "serving" ? 1 : this.#numFailures + 1;
    logFailure(error);
    this.#group!.kill();
    this.#recovery = this.#restart(error);
    this.#recovery.catch(() => {});
    this.#onLost(error);
  }

  async #restart(loss: UcmError): Promise<void> {
    const { signal } = this.#stopping;
    let last = loss;
    await this.#group!.shutdown({ messageMs: 0, signalMs: 0 });
    while (this.#numFailures < this.#policy.maxFailures) {
      const pauseMs = this.#pauseMs();
      log.warning(`Starting the workers again in ${pauseMs / 1000} s`);
      await sleep(pauseMs, undefined, { signal });
      this.#lifecycle.to("spawn");
      try {
        const startedMs = performance.now();
        await this.#spawn(signal);
        log.info(`Workers are back after ${((performance.now() - startedMs) / 1000).toFixed(2)} s`);
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        last = toUcmError(error);
        logFailure(last);
        this.#lifecycle.to("failed");
        this.#numFailures += 1;
      }
    }
    this.#lifecycle.to("stopped");
    const failure = crashLoop(this.#numFailures, last);
    this.#onGiveUp(failure);
    throw failure;
  }

  #pauseMs(): number {
    const { firstPauseMs, longestPauseMs } = this.#policy;
    return Math.min(longestPauseMs, firstPauseMs * 2 ** (this.#numFailures - 1));
  }
}

/** Without the last words of a worker, which the log has already. */
function logFailure({ message }: UcmError): void {
  log.error(message.split("\n", 1)[0]!);
}

/** Ends with the last words of the worker. */
function crashLoop(numFailures: number, last: UcmError): UcmError {
  return new UcmError(
    last.code,
    `The workers failed ${numFailures} times in a row and are not started again. The last failure: ${last.message}`,
  );
}
