import type { WorkerSampling } from "../../../src/messages/index.js";
import type { DrawSpec } from "../../../src/native/index.js";
import type { SamplingKernels } from "../../../src/worker/sampler.js";

/**
 * Probabilities of the whole vocabulary after temperature, min_p, top_k and top_p, in float64 and by
 * sorting: the semantics of vLLM, written as directly as possible. Dropped tokens have 0.
 */
export function filteredProbabilities(
  logits: ArrayLike<number>,
  { temperature, topK, topP, minP }: Omit<DrawSpec, "uniform">,
): Float64Array {
  let kept = Float64Array.from(logits, (logit) => logit / temperature);
  const drop = (isDropped: (id: number) => boolean) => {
    kept = kept.map((logit, id) => (isDropped(id) ? -Infinity : logit));
  };
  const afterTemperature = softmax(kept);
  const likeliest = Math.max(...afterTemperature);
  drop((id) => afterTemperature[id]! < minP * likeliest);
  if (topK > 0 && topK < kept.length) {
    const limit = [...kept].sort((a, b) => b - a)[topK - 1]!;
    drop((id) => kept[id]! < limit);
  }
  const afterTopK = softmax(kept);
  // Ascending, of equals the highest id first; what is dropped has at most 1 - topP in sum.
  const ascending = [...afterTopK.keys()].sort((a, b) => afterTopK[a]! - afterTopK[b]! || b - a);
  const dropped = new Set<number>();
  let sum = 0;
  for (const id of ascending.slice(0, -1)) {
    sum += afterTopK[id]!;
    if (topP < 1 && sum <= 1 - topP) dropped.add(id);
  }
  drop((id) => dropped.has(id));
  return softmax(kept);
}

function endsIn(output: readonly number[], end: readonly number[]): boolean {
  return output.slice(output.length - end.length).join() === end.join();
}

/** Logits after allowed_token_ids, bad_words, min_tokens, logit_bias and penalties, in float64. */
export function processedLogits(
  raw: ArrayLike<number>,
  sampling: WorkerSampling,
  prompt: readonly number[],
  output: readonly number[],
): Float64Array {
  const { allowedTokenIds, logitBias, repetitionPenalty } = sampling;
  return Float64Array.from(raw, (rawLogit, id) => {
    let logit = rawLogit;
    if (allowedTokenIds !== null && !allowedTokenIds.includes(id)) logit = -Infinity;
    const endsWord = sampling.badWordIds.some(
      (word) => word.at(-1) === id && endsIn(output, word.slice(0, -1)),
    );
    if (endsWord) logit = -Infinity;
    const isStop = sampling.stopTokenIds.includes(id) || sampling.eosTokenIds.includes(id);
    if (isStop && output.length < sampling.minTokens) logit = -Infinity;
    logit += logitBias?.[id] ?? 0;
    const count = output.filter((token) => token === id).length;
    if (count > 0 || prompt.includes(id)) {
      logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
    }
    logit -= sampling.frequencyPenalty * count;
    return count > 0 ? logit - sampling.presencePenalty : logit;
  });
}

export function softmax(logits: ArrayLike<number>): Float64Array {
  const max = Math.max(...Array.from(logits));
  const weights = Float64Array.from(logits, (logit) => Math.exp(logit - max));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/** The kernels of the addon, plainly. */
export const plainKernels: SamplingKernels = {
  findNonFinite(logits) {
    return logits.findIndex((x) => !Number.isFinite(x));
  },
  argmax(logits) {
    return logits.indexOf(Math.max(...logits));
  },
  draw(logits, spec) {
    const probabilities = filteredProbabilities(logits, spec);
    let sum = 0;
    let token = -1;
    for (const [id, probability] of probabilities.entries()) {
      if (probability === 0) continue;
      token = id;
      sum += probability;
      if (sum > spec.uniform) break;
    }
    return token;
  },
  topLogprobs(logits, k, tokenId) {
    const max = Math.max(...logits);
    const normalizer = max + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - max), 0));
    const ids = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
    const tokenIds = Int32Array.from(k < 0 ? ids : ids.slice(0, k));
    return {
      tokenIds,
      logprobs: Float32Array.from(tokenIds, (id) => logits[id]! - normalizer),
      tokenLogprob: logits[tokenId]! - normalizer,
      tokenRank: 1 + logits.filter((logit) => logit > logits[tokenId]!).length,
    };
  },
};
