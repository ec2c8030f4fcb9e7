import { UcmError } from "../errors/index.js";
import {
  type FromWorker,
  PROTOCOL_VERSION,
  type ProgressMessage,
  type ReadyMessage,
  type StepMessage,
  type StepResultMessage,
  type TokenMask,
  type WorkerConfig,
} from "../messages/index.js";
import type { WorkerSpec } from "./plan.js";
import { type StopPatience, WorkerProcess } from "./worker-process.js";

/** Silence after which a worker counts as lost. */
export interface WorkerTimeouts {
  /** Between two signs of progress while loading. */
  loadMs: number;
  /** One step. */
  stepMs: number;
}

type Expected = ReadyMessage | StepResultMessage;

interface Waiter {
  type: Expected["type"];
  /** What is being waited for, for the message of a timeout. */
  what: string;
  timeoutMs: number;
  timer: NodeJS.Timeout;
  resolve(message: Expected): void;
  reject(error: UcmError): void;
}

/**
 * The typed conversation with one worker: one question at a time, every wait has a timeout, and a
 * worker that fails, dies or speaks another version rejects the question with a UcmError.
 */
export class WorkerChannel {
  readonly #process: WorkerProcess;
  readonly #timeouts: WorkerTimeouts;
  readonly #onProgress: (message: ProgressMessage) => void;
  readonly #onDeath: (error: UcmError) => void;
  #waiter: Waiter | null = null;
  #death: UcmError | null = null;

  constructor(
    spec: WorkerSpec,
    entry: string,
    sharedDescriptor: number,
    timeouts: WorkerTimeouts,
    handlers: { onProgress(message: ProgressMessage): void; onDeath(error: UcmError): void },
  ) {
    this.#timeouts = timeouts;
    this.#onProgress = handlers.onProgress;
    this.#onDeath = handlers.onDeath;
    this.#process = new WorkerProcess(spec, entry, sharedDescriptor, {
      onMessage: (message) => this.#receive(message),
      onEnd: (error) => this.#end(error),
    });
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Loads the worker's part of the model. */
  async load(config: WorkerConfig): Promise<ReadyMessage> {
    const reply = this.#expect("ready", "load the model", this.#timeouts.loadMs);
    this.#process.send({ type: "load", version: PROTOCOL_VERSION, config });
    const ready = (await reply) as ReadyMessage;
    if (ready.version === PROTOCOL_VERSION) return ready;
    throw new UcmError(
      "UCM_ERR_WORKER",
      `The worker speaks protocol version ${ready.version}, this process ${PROTOCOL_VERSION}: the build is mixed. Run npm run build.`,
    );
  }

  async step(step: StepMessage): Promise<StepResultMessage> {
    const reply = this.#expect("stepResult", `compute step ${step.stepId}`, this.#timeouts.stepMs);
    this.#process.send(step);
    const result = (await reply) as StepResultMessage;
    if (result.stepId === step.stepId) return result;
    throw new UcmError(
      "UCM_ERR_WORKER",
      `The worker answered step ${result.stepId} when step ${step.stepId} was asked.`,
    );
  }

  /** What the sampling of the step under way waits for. */
  sendMasks(stepId: number, masks: TokenMask[]): void {
    if (this.#death === null) this.#process.send({ type: "masks", stepId, masks });
  }

  async stop(patience?: StopPatience): Promise<void> {
    await this.#process.stop(patience);
  }

  kill(): void {
    this.#process.kill();
  }

  #expect(type: Expected["type"], what: string, timeoutMs: number): Promise<Expected> {
    if (this.#death !== null) return Promise.reject(this.#death);
    if (this.#waiter !== null) {
      const message = `A worker was asked to ${what} before it had answered.`;
      return Promise.reject(new UcmError("UCM_ERR_INTERNAL", message));
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#expire(), timeoutMs);
      this.#waiter = { type, what, timeoutMs, timer, resolve, reject };
    });
  }

  #receive(message: FromWorker): void {
    const waiter = this.#waiter;
    if (message.type === "progress") {
      waiter?.timer.refresh();
      this.#onProgress(message);
    } else if (message.type === "failed") {
      this.#settle()?.reject(UcmError.fromJSON(message.error));
    } else if (message.type === waiter?.type) {
      this.#settle()?.resolve(message);
    }
  }

  /** Takes the waiter away, its timer stopped. */
  #settle(): Waiter | null {
    const waiter = this.#waiter;
    if (waiter !== null) clearTimeout(waiter.timer);
    this.#waiter = null;
    return waiter;
  }

  #expire(): void {
    const waiter = this.#settle();
    if (waiter === null) return;
    const seconds = Math.round(waiter.timeoutMs / 1000);
    const message = `The worker (pid ${this.pid}) did not ${waiter.what} within ${seconds} s and was stopped.`;
    waiter.reject(new UcmError("UCM_ERR_TIMEOUT", message));
    void this.#process.stop({ messageMs: 0, signalMs: 1_000 });
  }

  #end(error: UcmError | null): void {
    this.#death =
      error ?? new UcmError("UCM_ERR_WORKER", `The worker (pid ${this.pid}) has been stopped.`);
    this.#settle()?.reject(this.#death);
    if (error !== null) this.#onDeath(error);
  }
}
