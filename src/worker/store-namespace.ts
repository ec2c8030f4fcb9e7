import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import type { WorkerConfig } from "../messages/index.js";
import { type ModelConfig, weightsDigest } from "../model/index.js";
import { runtimeVersion } from "../onnx/index.js";
import { representationKind } from "../sparse/index.js";

/** Raised when a block's bytes mean something else, or are computed in another order. */
const BLOCK_VERSION = 3;

/** What the matrix products of ONNX Runtime choose their code by on x86. */
const CPU_FEATURES = [
  "avx",
  "avx2",
  "fma",
  "f16c",
  "avx512f",
  "avx512bw",
  "avx512dq",
  "avx512vl",
  "avx512_vnni",
  "avx_vnni",
  "avx512_bf16",
  "amx_tile",
  "amx_int8",
  "amx_bf16",
];

export interface StoreNamespace {
  /** 32 bytes. */
  digest: Uint8Array;
  /** One line for people. */
  about: string;
}

/**
 * The namespace of a worker's blocks: a digest of all beside the tokens that makes a bit of their keys
 * and values differ. Blocks are shared between workers whose namespaces are equal, and no others.
 */
export function storeNamespace(
  worker: WorkerConfig,
  model: ModelConfig,
  isa: string,
): StoreNamespace {
  const { bosTokenId, eosTokenIds, maxPositionEmbeddings, ...arithmetic } = model;
  const isDummy = worker.loadFormat === "dummy";
  const facts = {
    version: BLOCK_VERSION,
    model: arithmetic,
    weights: isDummy ? { seed: worker.seed } : weightsDigest(worker.modelPath),
    dtype: worker.dtype,
    quantization: worker.quantization,
    kvDtype: worker.kvDtype,
    blockSize: worker.blockSize,
    rank: worker.rank,
    worldSize: worker.worldSize,
    isa,
    onnxRuntime: runtimeVersion,
    cpu: cpuFeatures(),
    ...(worker.sparse === null
      ? {}
      : {
          representation: representationKind(worker.sparse),
          representationTokens: worker.sparse.representationTokens,
        }),
  };
  const about = {
    model: basename(worker.modelPath),
    architecture: model.architecture,
    dtype: worker.dtype,
    quantization: worker.quantization,
    kvDtype: worker.kvDtype,
    blockSize: worker.blockSize,
    rank: worker.rank,
    worldSize: worker.worldSize,
    isa,
  };
  return {
    digest: createHash("sha256").update(JSON.stringify(facts)).digest(),
    about: JSON.stringify(about),
  };
}

/** Those that this machine has; none where the system does not tell. */
function cpuFeatures(): string[] {
  try {
    const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
    const present = new Set(flags.trim().split(/\s+/));
    return CPU_FEATURES.filter((feature) => present.has(feature));
  } catch {
    return [];
  }
}
