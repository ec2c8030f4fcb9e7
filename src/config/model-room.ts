import { UcmError } from "../errors/index.js";
import type { Quantization } from "../messages/index.js";
import type { ModelConfig } from "../model/model-config.js";
import type { Shard } from "../model/shard.js";
import { estimateWeightBytes } from "../model/weight-size.js";
import { toGib } from "./kv-size.js";
import type { Machine } from "./machine.js";

/** Memory of one worker, and where its bound comes from, in words. */
export interface WorkerRoom {
  bytes: number;
  source: string;
}

/** What each of the workers may take: an even share of the machine's, within the limits of a process. */
export function workerRoom(
  { availableBytes, isContainer, processRoom }: Machine,
  share: number,
  worldSize: number,
): WorkerRoom {
  const bytes = (availableBytes * share) / worldSize;
  if (processRoom !== null && processRoom.bytes < bytes) {
    return { bytes: processRoom.bytes, source: `${processRoom.option} leaves it so much` };
  }
  const where = isContainer ? "within the container's memory limit" : "of memory";
  const among = worldSize === 1 ? "" : ` for ${worldSize} workers`;
  const free = `${toGib(availableBytes)} GiB ${where} are free${among}`;
  return { bytes, source: `${free}, --gpu-memory-utilization is ${share}` };
}

/** @throws UcmError UCM_ERR_MEMORY for weights that take more than there is, with the formats that would fit. */
export function requireRoomForWeights(
  model: ModelConfig,
  quantization: Quantization,
  shard: Shard,
  room: WorkerRoom,
): void {
  const bytesIn = (format: Quantization) => estimateWeightBytes(model, format, shard);
  if (bytesIn(quantization) <= room.bytes) return;
  const smaller = (["int8", "int4"] as const)
    .filter((format) => bytesIn(format) <= room.bytes)
    .map((format) => `--quantization ${format} (${toGib(bytesIn(format))} GiB)`);
  const way = smaller.length > 0 ? `try ${smaller.join(" or ")}` : "take a smaller model";
  throw new UcmError(
    "UCM_ERR_MEMORY",
    `The model does not fit into memory: its weights take ${toGib(bytesIn(quantization))} GiB in ${quantization ?? "fp32"} per worker, and a worker may take ${toGib(room.bytes)} GiB (${room.source}). Give it more memory, or ${way}.`,
  );
}
