import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";
import type { ModelConfig } from "../model/model-config.js";
import { requireShardable } from "../model/shard.js";
import type { EngineConfig } from "./engine-config.js";
import type { EngineOptions } from "./engine-options.js";
import { surveyGpus } from "./gpus.js";
import type { Machine } from "./machine.js";

/**
 * How many workers there are and where they run. Several are pinned to disjoint cores when there are
 * enough; one is left to the system, so that two servers of a machine do not meet on its first cores.
 * @throws UcmError for a device without a backend, and a size that does not divide the model.
 */
export function resolveParallel(
  options: Pick<
    EngineOptions,
    "device" | "tensorParallelSize" | "cpuCoresPerWorker" | "workerTimeout"
  >,
  model: ModelConfig,
  machine: Machine,
): EngineConfig["parallel"] {
  if (options.device === "cuda") throw noCuda();
  const { tensorParallelSize: size } = options;
  requireShardable(model, size);
  const threads = options.cpuCoresPerWorker ?? Math.max(1, Math.floor(machine.cores / size));
  const { coreIds } = machine;
  const isPinned = size > 1 && coreIds.length >= size * threads;
  if (size > 1 && !isPinned) {
    log.warning(
      `${size} workers of ${threads} threads share ${machine.cores} cores: they are not pinned, and slower than fewer workers. Lower --tensor-parallel-size or --cpu-cores-per-worker.`,
    );
  }
  const cores = Array.from({ length: isPinned ? size : 0 }, (_, rank) =>
    coreIds.slice(rank * threads, (rank + 1) * threads),
  );
  const workerTimeoutMs = Math.ceil(options.workerTimeout * 1000);
  return { tensorParallelSize: size, threads, cores, workerTimeoutMs };
}

function noCuda(): UcmError {
  const { gpus, source } = surveyGpus();
  const found =
    gpus.length === 0 ? `no GPU was found: ${source}` : `found ${gpus.join(", ")} by ${source}`;
  return new UcmError(
    "UCM_ERR_USAGE",
    `argument --device: cuda is not available: this version has no GPU backend, only one for CPUs (${found}). Use --device cpu, or auto.`,
    { param: "device" },
  );
}
