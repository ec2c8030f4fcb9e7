import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { EngineConfig } from "../config/engine-config.js";
import type { Executor } from "../engine/types.js";
import { toUcmError, UcmError } from "../errors/index.js";
import { mergeRankNews, noPartialNews } from "../kvcache/index.js";
import type {
  ProgressMessage,
  ReadyMessage,
  StepMessage,
  StepResultMessage,
  StoreReport,
  TokenMask,
} from "../messages/index.js";
import { SparseRanks } from "../sparse/index.js";
import { planWorkers } from "./plan.js";
import { SharedFile } from "./shared-file.js";
import { watchWorkers } from "./watchdog.js";
import { WorkerChannel } from "./worker-channel.js";
import type { StopPatience } from "./worker-process.js";

export interface LaunchOptions {
  /** How far the slowest worker is with loading. */
  onProgress?: (message: ProgressMessage) => void;
  /** What the store of a rank counts, whenever it tells; a worker that replaces another from zero. */
  onStoreReport?: (rank: number, report: StoreReport) => void;
  /** Gives up loading and stops the workers. */
  signal?: AbortSignal | undefined;
  /** The worker's program; tests put their own in its place. */
  workerEntry?: string;
  env?: NodeJS.ProcessEnv;
  /** Longest time from one message of progress to the next while loading. */
  loadTimeoutMs?: number;
}

/** Workers that are loaded and wait for steps. When one is lost, none is left. */
export interface WorkerGroup {
  executor: Executor;
  /** What rank 0 said of itself, with the time of the slowest. */
  ready: ReadyMessage;
  /** Stops all workers: a message, then SIGTERM, then SIGKILL. Safe to call twice. */
  shutdown(patience?: StopPatience): Promise<void>;
  /** SIGKILL to all, for a process that leaves at once. */
  kill(): void;
  /** Called once, when a worker is lost that nobody asked to end: dead, hung, failed or confused. */
  onExit(callback: (error: UcmError) => void): void;
}

const defaultEntry = fileURLToPath(new URL("../worker/main.js", import.meta.url));

/** How long the word of a death may come after that of its consequences on other ranks. */
const BLAME_MS = 150;

/** A worker that loads does not hear; one that failed ends by itself. */
const FAILED_START: StopPatience = { messageMs: 0, signalMs: 250 };

/**
 * Starts one process per rank, all at once, and loads the model into them. Rejects with the worker's
 * own error, or UCM_ERR_WORKER with the end of its standard error, or UCM_ERR_TIMEOUT; no process is
 * left then.
 */
export async function launchWorkers(
  config: EngineConfig,
  options: LaunchOptions = {},
): Promise<WorkerGroup> {
  const group = new Group(config, options);
  try {
    const ready = await abortable(group.load(), options.signal);
    return {
      executor: { execute: (step, masks) => group.execute(step, masks ?? null) },
      ready,
      shutdown: (patience) => group.shutdown(patience),
      kill: () => group.kill(),
      onExit: (callback) => group.onLoss(callback),
    };
  } catch (error) {
    await group.shutdown(FAILED_START);
    throw error;
  }
}

class Group {
  readonly #channels: readonly WorkerChannel[];
  readonly #loads: () => Promise<ReadyMessage>[];
  readonly #shared = new SharedFile();
  readonly #sparseRanks: SparseRanks;
  readonly #timeoutMs: number;
  #stopWatching: () => void = () => {};
  #isStopping = false;
  /** Of each rank the last one; null before the first. */
  readonly #progress: (ProgressMessage | null)[];
  #partialNews = noPartialNews;
  /** The worker whose end was first told of. */
  #death: UcmError | null = null;
  #loss: UcmError | null = null;
  #listener: ((error: UcmError) => void) | null = null;

  constructor(config: EngineConfig, options: LaunchOptions) {
    const env = options.env ?? process.env;
    const entry = options.workerEntry ?? defaultEntry;
    const loadTimeoutMs = options.loadTimeoutMs ?? loadTimeoutOf(env);
    const plan = planWorkers(config, env);
    this.#timeoutMs = config.parallel.workerTimeoutMs;
    this.#progress = plan.map(() => null);
    this.#channels = plan.map(
      (spec) =>
        new WorkerChannel(spec, entry, this.#shared.descriptor, loadTimeoutMs, {
          onProgress: (message) => {
            this.#progress[spec.config.rank] = message;
            options.onProgress?.(slowest(this.#progress));
          },
          // What a lost worker had still sent would count as its successor's.
          onStoreReport: (report) =>
            this.#loss === null && options.onStoreReport?.(spec.config.rank, report),
          onDeath: (error) => {
            this.#death ??= error;
            this.#lose(error);
          },
          onBroken: (error) => this.#lose(error),
        }),
    );
    this.#sparseRanks = new SparseRanks(plan.length);
    this.#loads = () => this.#channels.map((channel, rank) => channel.load(plan[rank]!.config));
  }

  async load(): Promise<ReadyMessage> {
    this.#stopWatching = watchWorkers(this.#channels, this.#shared, this.#timeoutMs, (error) =>
      this.#lose(error),
    );
    try {
      const all = await Promise.all(this.#loads());
      return { ...all[0]!, loadMs: Math.max(...all.map(({ loadMs }) => loadMs)) };
    } catch (error) {
      // Once all have been killed for one, each is found dead.
      throw this.#loss ?? error;
    }
  }

  /** Every rank gets the same step; rank 0's reply counts, and what all say of their stores. */
  async execute(step: StepMessage, masks: Promise<TokenMask[]> | null): Promise<StepResultMessage> {
    if (this.#loss !== null) throw this.#loss;
    const replies = this.#channels.map((channel) =>
      channel.step({ ...step, awaitsMasks: masks !== null }),
    );
    void masks?.then((ready) => {
      for (const channel of this.#channels) channel.sendMasks(step.stepId, ready);
    });
    try {
      const results = await Promise.all(replies);
      const stores = results.map(({ store }) => store ?? null);
      const { news, rest } = mergeRankNews(this.#partialNews, stores);
      this.#partialNews = rest;
      const sparse = this.#sparseRanks.merge(
        step,
        results.map((result) => result.sparse ?? null),
      );
      const spans = results.flatMap((result) => result.spans ?? []);
      return { ...results[0]!, store: news, sparse, spans };
    } catch (error) {
      if (this.#isStopping || this.#loss !== null) throw this.#loss ?? toLoss(error);
      // A rank fails when another has ended: that one is to blame.
      if (this.#channels.length > 1) await sleep(BLAME_MS);
      const loss = toLoss(this.#death ?? error);
      this.#lose(loss);
      throw this.#loss ?? loss;
    }
  }

  onLoss(listener: (error: UcmError) => void): void {
    this.#listener = listener;
    if (this.#loss !== null) listener(this.#loss);
  }

  async shutdown(patience?: StopPatience): Promise<void> {
    const isFirst = !this.#isStopping;
    this.#isStopping = true;
    this.#stopWatching();
    await Promise.all(this.#channels.map((channel) => channel.stop(patience)));
    if (isFirst) this.#shared.close();
  }

  kill(): void {
    this.#stopWatching();
    for (const channel of this.#channels) channel.kill();
  }

  /** The first loss takes the whole group down. */
  #lose(error: UcmError): void {
    if (this.#loss !== null || this.#isStopping) return;
    this.#loss = error;
    this.kill();
    this.#listener?.(error);
  }
}

/** The least of what ranks have told; one that has not is at the start. */
function slowest(progress: readonly (ProgressMessage | null)[]): ProgressMessage {
  const told = progress.filter((message) => message !== null);
  const shareOf = ({ done, total }: ProgressMessage) => done / total;
  const last = told.reduce((least, one) => (shareOf(one) < shareOf(least) ? one : least));
  return told.length === progress.length ? last : { ...last, done: 0 };
}

/** Whatever a worker fails with in a step, to those who wait for it it is a worker that was lost. */
function toLoss(error: unknown): UcmError {
  const known = toUcmError(error);
  if (known.code === "UCM_ERR_WORKER" || known.code === "UCM_ERR_TIMEOUT") return known;
  return new UcmError("UCM_ERR_WORKER", known.message, { cause: known });
}

async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(signal.reason);
    if (signal.aborted) giveUp();
    signal.addEventListener("abort", giveUp, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", giveUp));
  });
}

/** vLLM's variable, for slow disks and large models. */
function loadTimeoutOf(env: NodeJS.ProcessEnv): number {
  const name = "VLLM_ENGINE_READY_TIMEOUT_S";
  const text = env[name];
  if (text === undefined || text === "") return 600_000;
  const seconds = Number(text);
  if (seconds > 0 && Number.isFinite(seconds)) return seconds * 1000;
  throw new UcmError(
    "UCM_ERR_CONFIG",
    `${name} must be a number of seconds above 0, got '${text}'.`,
  );
}
