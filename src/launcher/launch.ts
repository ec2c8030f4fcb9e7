import { fileURLToPath } from "node:url";
import type { EngineConfig } from "../config/engine-config.js";
import type { Executor } from "../engine/types.js";
import { UcmError } from "../errors/index.js";
import { mergeRankNews, noPartialNews } from "../kvcache/index.js";
import type { ProgressMessage, ReadyMessage } from "../messages/index.js";
import { planWorkers } from "./plan.js";
import { SharedFile } from "./shared-file.js";
import { WorkerChannel, type WorkerTimeouts } from "./worker-channel.js";
import type { StopPatience } from "./worker-process.js";

export interface LaunchOptions {
  /** News of loading, from rank 0. */
  onProgress?: (message: ProgressMessage) => void;
  /** Gives up loading and stops the workers. */
  signal?: AbortSignal;
  /** The worker's program; tests put their own in its place. */
  workerEntry?: string;
  env?: NodeJS.ProcessEnv;
  timeouts?: Partial<WorkerTimeouts>;
}

/** Workers that are loaded and wait for steps. */
export interface WorkerGroup {
  executor: Executor;
  /** What rank 0 said of itself. */
  ready: ReadyMessage;
  /** Stops all workers: a message, then SIGTERM, then SIGKILL. Safe to call twice. */
  shutdown(patience?: StopPatience): Promise<void>;
  /** SIGKILL to all, for a process that leaves at once. */
  kill(): void;
  /** Called once, when a worker ends that nobody asked to. */
  onExit(callback: (error: UcmError) => void): void;
}

const defaultEntry = fileURLToPath(new URL("../worker/main.js", import.meta.url));

/**
 * Starts one process per rank and loads the model into it. Rejects with the worker's own error, or
 * UCM_ERR_WORKER with the end of its standard error, or UCM_ERR_TIMEOUT; no process is left then.
 */
export async function launchWorkers(
  config: EngineConfig,
  options: LaunchOptions = {},
): Promise<WorkerGroup> {
  const env = options.env ?? process.env;
  const entry = options.workerEntry ?? defaultEntry;
  const timeouts = { ...timeoutsOf(env), ...options.timeouts };
  const exit = createExitNotice();
  const plan = planWorkers(config, env);
  const shared = new SharedFile();
  const channels = plan.map(
    (spec) =>
      new WorkerChannel(spec, entry, shared.descriptor, timeouts, {
        onProgress: (message) => spec.config.rank === 0 && options.onProgress?.(message),
        onDeath: exit.notify,
      }),
  );
  const shutdown = async (patience?: StopPatience) => {
    await Promise.all(channels.map((channel) => channel.stop(patience)));
  };
  try {
    const loads = channels.map((channel, rank) => channel.load(plan[rank]!.config));
    const [ready] = await abortable(Promise.all(loads), options.signal);
    return {
      executor: createExecutor(channels),
      ready: ready!,
      shutdown,
      kill: () => {
        for (const channel of channels) channel.kill();
      },
      onExit: exit.subscribe,
    };
  } catch (error) {
    await shutdown({ messageMs: 1_000, signalMs: 1_000 });
    throw error;
  }
}

/** Every rank gets the same step; rank 0's reply counts, and what all say of their stores. */
function createExecutor(channels: readonly WorkerChannel[]): Executor {
  let partial = noPartialNews;
  return {
    async execute(step, masks = null) {
      const replies = channels.map((channel) =>
        channel.step({ ...step, awaitsMasks: masks !== null }),
      );
      void masks?.then((ready) => {
        for (const channel of channels) channel.sendMasks(step.stepId, ready);
      });
      const results = await Promise.all(replies);
      const { news, rest } = mergeRankNews(
        partial,
        results.map(({ store }) => store ?? null),
      );
      partial = rest;
      return { ...results[0]!, store: news };
    },
  };
}

/** Remembers the first unexpected end for a subscriber that comes later. */
function createExitNotice() {
  let error: UcmError | null = null;
  let callback: ((error: UcmError) => void) | null = null;
  return {
    notify(death: UcmError): void {
      if (error !== null) return;
      error = death;
      callback?.(death);
    },
    subscribe(listener: (error: UcmError) => void): void {
      callback = listener;
      if (error !== null) listener(error);
    },
  };
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

/** vLLM's variables; a CPU step of a large model may take minutes, so the default is generous. */
function timeoutsOf(env: NodeJS.ProcessEnv): WorkerTimeouts {
  return {
    loadMs: secondsOf(env, "VLLM_ENGINE_READY_TIMEOUT_S", 600) * 1000,
    stepMs: secondsOf(env, "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", 1800) * 1000,
  };
}

function secondsOf(env: NodeJS.ProcessEnv, name: string, fallback: number): number {
  const text = env[name];
  if (text === undefined || text === "") return fallback;
  const seconds = Number(text);
  if (seconds > 0 && Number.isFinite(seconds)) return seconds;
  throw new UcmError(
    "UCM_ERR_CONFIG",
    `${name} must be a number of seconds above 0, got '${text}'.`,
  );
}
