import type { EngineConfig } from "../../src/config/engine-config.js";
import { launchWorkers, type WorkerGroup } from "../../src/launcher/index.js";
import type { SampledToken, WorkerSampling } from "../../src/messages/index.js";
import { testEngineConfig } from "./engine-config.js";
import { blocks, generateTogether } from "./runner.js";

export const builtWorker = new URL("../../dist/worker/main.js", import.meta.url).pathname;

/** Blocks of 16 tokens that each sequence gets. */
const BLOCKS = 8;
const MAX_SEQUENCES = 32;

/** Starts real workers, each with a thread that shares the cores with the others. */
export function launchRanks(
  worldSize: number,
  model: Partial<EngineConfig["model"]>,
): Promise<WorkerGroup> {
  const config = testEngineConfig(model);
  const parallel = { ...config.parallel, tensorParallelSize: worldSize, threads: 1 };
  const cache = { ...config.cache, numBlocks: MAX_SEQUENCES * BLOCKS };
  return launchWorkers({ ...config, cache, parallel }, { workerEntry: builtWorker });
}

/** Greedy tokens of all prompts side by side, each with the log-probabilities of the whole vocabulary. */
export async function generateOn(
  group: WorkerGroup,
  prompts: readonly (readonly number[])[],
  count: number,
  sampling: Partial<WorkerSampling> = { logprobs: -1 },
): Promise<SampledToken[][]> {
  const sequences = prompts.map((prompt, i) => ({
    seqId: i,
    prompt,
    blockIds: blocks(i * BLOCKS, BLOCKS),
    sampling,
  }));
  const sampled = await generateTogether(
    { runner: { step: group.executor.execute } },
    sequences,
    count,
  );
  return sequences.map(({ seqId }) => sampled.get(seqId)!);
}

export const tokenIdsOf = (tokens: readonly SampledToken[]) => tokens.map(({ tokenId }) => tokenId);

/** Log-probabilities of one position in the order of the vocabulary. */
function byToken({ logprobs }: SampledToken): Float64Array {
  const { tokenIds, logprobs: values } = logprobs!;
  const row = new Float64Array(values.length - 1);
  // The first entry is the sampled token once more.
  for (let i = 1; i < values.length; i++) row[tokenIds[i]!] = values[i]!;
  return row;
}

/**
 * Norm of the difference of two positions' logits over the norm of the first's. Log-probabilities are
 * the logits less a constant, so both are taken less their mean.
 */
export function logitError(expected: SampledToken, actual: SampledToken): number {
  const centred = (row: Float64Array) => {
    const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
    return row.map((value) => value - mean);
  };
  const [a, b] = [centred(byToken(expected)), centred(byToken(actual))];
  const norm = (row: Float64Array) => Math.sqrt(row.reduce((sum, value) => sum + value ** 2, 0));
  return norm(a.map((value, i) => value - b[i]!)) / norm(a);
}
