import { writeFileSync } from "node:fs";
import type { Invocation } from "../invocation.js";
import { createProgressBar } from "../load-progress.js";
import {
  type EngineBench,
  flopsPerToken,
  generateOne,
  randomPrompt,
  withEngine,
} from "./engine-bench.js";
import { share } from "./latency.js";
import { RandomSource } from "./random-source.js";
import { measureRoofs, productsPerS, renderRoofs } from "./roofs.js";

const print = (line: string) => process.stdout.write(`${line}\n`);

/**
 * `ucm bench throughput`: all prompts at once through the engine, in vLLM's words, and below it the
 * arithmetic done beside the machine's roofs.
 */
export async function runBenchThroughput(
  invocation: Invocation<"bench throughput">,
): Promise<number> {
  const { flags, warnings } = invocation;
  return withEngine(flags, warnings, async (bench) => {
    const elapsedS = await generateAll(bench, flags);
    if (bench.signal.aborted) return;
    const numInput = flags.numPrompts * (flags.prefixLen + flags.inputLen);
    const numOutput = flags.numPrompts * flags.outputLen * flags.n;
    const requestRate = flags.numPrompts / elapsedS;
    const tokenRate = (numInput + numOutput) / elapsedS;
    const outputRate = numOutput / elapsedS;
    print(
      `Throughput: ${requestRate.toFixed(2)} requests/s, ${tokenRate.toFixed(2)} total tokens/s, ${outputRate.toFixed(2)} output tokens/s`,
    );
    print(`Total num prompt tokens:  ${numInput}`);
    print(`Total num output tokens:  ${numOutput}`);
    const roofs = await measureRoofs(bench.config.parallel.threads);
    print(renderRoofs(roofs));
    const { layers, head } = flopsPerToken(bench.config);
    const flops = (numInput + numOutput) * layers + numOutput * head;
    print(share("Computed", flops / elapsedS, productsPerS(bench.config, roofs), "GFLOP/s"));
    if (flags.outputJson !== null) {
      const result = {
        elapsed_time: elapsedS,
        num_requests: flags.numPrompts,
        total_num_tokens: numInput + numOutput,
        requests_per_second: requestRate,
        tokens_per_second: tokenRate,
        roofs,
      };
      writeFileSync(flags.outputJson, `${JSON.stringify(result, null, 4)}\n`);
    }
  });
}

/** Seconds for all prompts. */
async function generateAll(
  bench: EngineBench,
  flags: Invocation<"bench throughput">["flags"],
): Promise<number> {
  const random = new RandomSource(flags.seed);
  const { vocabSize } = bench.config.model;
  const prefix = randomPrompt(flags.prefixLen, vocabSize, random);
  const prompts = Array.from({ length: flags.numPrompts }, () => [
    ...prefix,
    ...randomPrompt(flags.inputLen, vocabSize, random),
  ]);
  const bar = createProgressBar(true);
  let numDone = 0;
  const startMs = performance.now();
  await Promise.all(
    prompts.map(async (tokenIds, index) => {
      await generateOne(bench, {
        id: `bench-${index}`,
        tokenIds,
        outputLen: flags.outputLen,
        n: flags.n,
        detokenize: !flags.disableDetokenize,
      });
      numDone += 1;
      bar.update(numDone, prompts.length, "Processed prompts");
    }),
  );
  bar.stop();
  return (performance.now() - startMs) / 1000;
}
