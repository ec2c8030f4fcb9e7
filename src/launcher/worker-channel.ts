import { UcmError } from "../errors/index.js";
import {
  type FromWorker,
  PROTOCOL_VERSION,
  type ProgressMessage,
  type ReadyMessage,
  type StepMessage,
  type StepResultMessage,
  type StoreReport,
  type TokenMask,
  type WorkerConfig,
} from "../messages/index.js";
import type { WorkerSpec } from "./plan.js";
import { describeStandstill, readVitals } from "./process-vitals.js";
import type { Heartbeat } from "./shared-file.js";
import { type StopPatience, WorkerProcess } from "./worker-process.js";

/** What a channel tells of its worker unasked. */
export interface ChannelHandlers {
  onProgress(message: ProgressMessage): void;
  onStoreReport(report: StoreReport): void;
  /** It ended and nobody had asked it to. */
  onDeath(error: UcmError): void;
  /** It lives, but there is no sense in asking it anything more. */
  onBroken(error: UcmError): void;
}

type Expected = ReadyMessage | StepResultMessage;

interface Waiter {
  type: Expected["type"];
  /** Runs out between two signs of progress while loading; a step has none, but is watched. */
  timer: NodeJS.Timeout | null;
  resolve(message: Expected): void;
  reject(error: UcmError): void;
}

/**
 * The typed conversation with one worker: one question at a time, and a worker that fails, dies, is
 * silent while loading or speaks another version rejects the question with a UcmError.
 */
export class WorkerChannel {
  readonly #process: WorkerProcess;
  readonly #loadTimeoutMs: number;
  readonly #handlers: ChannelHandlers;
  #waiter: Waiter | null = null;
  #isLoading = true;
  #stepId: number | null = null;
  #awaitsMasks = false;
  #death: UcmError | null = null;

  constructor(
    spec: WorkerSpec,
    entry: string,
    sharedDescriptor: number,
    loadTimeoutMs: number,
    handlers: ChannelHandlers,
  ) {
    this.#loadTimeoutMs = loadTimeoutMs;
    this.#handlers = handlers;
    this.#process = new WorkerProcess(spec, entry, sharedDescriptor, {
      onMessage: (message) => this.#receive(message),
      onGarbage: (error) => this.#break(error),
      onEnd: (error) => this.#end(error),
    });
  }

  /** For messages. */
  get name(): string {
    return this.#process.name;
  }

  /** Why the worker's process stands still, in words; null when that cannot be told. */
  get standstill(): string | null {
    return describeStandstill(readVitals(this.#process.pid));
  }

  /** Loads the worker's part of the model. */
  async load(config: WorkerConfig): Promise<ReadyMessage> {
    const reply = this.#expect("ready", () => this.#expireLoad());
    this.#process.send({ type: "load", version: PROTOCOL_VERSION, config });
    const ready = (await reply) as ReadyMessage;
    this.#isLoading = false;
    if (ready.version === PROTOCOL_VERSION) return ready;
    throw new UcmError(
      "UCM_ERR_WORKER",
      `The worker speaks protocol version ${ready.version}, this process ${PROTOCOL_VERSION}: the build is mixed. Run npm run build.`,
    );
  }

  async step(step: StepMessage): Promise<StepResultMessage> {
    const reply = this.#expect("stepResult");
    this.#stepId = step.stepId;
    this.#awaitsMasks = step.awaitsMasks ?? false;
    this.#process.send(step);
    const result = (await reply) as StepResultMessage;
    this.#stepId = null;
    if (result.stepId === step.stepId) return result;
    throw new UcmError(
      "UCM_ERR_WORKER",
      `${this.name} answered step ${result.stepId} when step ${step.stepId} was asked.`,
    );
  }

  /** What the sampling of the step under way waits for. */
  sendMasks(stepId: number, masks: TokenMask[]): void {
    this.#awaitsMasks = false;
    if (this.#death === null) this.#process.send({ type: "masks", stepId, masks });
  }

  /**
   * Something that changes while the worker does what it should, by the signs of life that it gives;
   * null while it cannot be told: it has ended, or waits for this process.
   */
  activity({ progress, idle }: Heartbeat): string | null {
    if (this.#death !== null || this.#awaitsMasks) return null;
    // Loading keeps the thread of the idle loop busy for long, but never without computing or reading.
    if (this.#isLoading) return `load ${idle} ${readVitals(this.#process.pid)?.effort}`;
    return this.#stepId === null ? `idle ${idle}` : `step ${this.#stepId} ${progress}`;
  }

  async stop(patience?: StopPatience): Promise<void> {
    await this.#process.stop(patience);
  }

  kill(): void {
    this.#process.kill();
  }

  #expect(type: Expected["type"], onTimeout: (() => void) | null = null): Promise<Expected> {
    if (this.#death !== null) return Promise.reject(this.#death);
    if (this.#waiter !== null) {
      const message = `${this.name} was asked again before it had answered.`;
      return Promise.reject(new UcmError("UCM_ERR_INTERNAL", message));
    }
    return new Promise((resolve, reject) => {
      const timer = onTimeout === null ? null : setTimeout(onTimeout, this.#loadTimeoutMs);
      this.#waiter = { type, timer, resolve, reject };
    });
  }

  #receive(message: FromWorker): void {
    const waiter = this.#waiter;
    if (message.type === "progress") {
      waiter?.timer?.refresh();
      this.#handlers.onProgress(message);
    } else if (message.type === "storeReport") {
      this.#handlers.onStoreReport(message.report);
    } else if (message.type === "failed") {
      this.#settle()?.reject(UcmError.fromJSON(message.error));
    } else if (message.type === waiter?.type) {
      this.#settle()?.resolve(message);
    } else {
      this.#break(new UcmError("UCM_ERR_WORKER", `${this.name} answered what nobody had asked.`));
    }
  }

  /** Takes the waiter away, its timer stopped. */
  #settle(): Waiter | null {
    const waiter = this.#waiter;
    if (waiter?.timer) clearTimeout(waiter.timer);
    this.#waiter = null;
    return waiter;
  }

  #expireLoad(): void {
    const seconds = Math.round(this.#loadTimeoutMs / 1000);
    const message = `${this.name} did not load a further part of the model within ${seconds} s and was killed. For slower ones, set VLLM_ENGINE_READY_TIMEOUT_S.`;
    this.#break(new UcmError("UCM_ERR_TIMEOUT", message));
  }

  #break(error: UcmError): void {
    this.#settle()?.reject(error);
    this.#handlers.onBroken(error);
  }

  #end(error: UcmError | null): void {
    this.#death = error ?? new UcmError("UCM_ERR_WORKER", `${this.name} has been stopped.`);
    this.#settle()?.reject(this.#death);
    if (error !== null) this.#handlers.onDeath(error);
  }
}
