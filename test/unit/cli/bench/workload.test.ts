import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { planArrivals } from "../../../../src/cli/bench/arrivals.js";
import { makeRequests } from "../../../../src/cli/bench/datasets.js";
import { RandomSource } from "../../../../src/cli/bench/random-source.js";
import { planBench } from "../../../../src/cli/bench/serve-plan.js";
import { readCommandLine } from "../../../../src/cli/command-flags.js";
import { loadTokenizer, type Tokenizer } from "../../../../src/tokenizer/index.js";
import { makeTempFolder } from "../../../helpers/temp-folder.js";
import { demoModel } from "../../../helpers/ucm-command.js";

const folder = makeTempFolder();

async function flagsOf(...argv: string[]) {
  const line = await readCommandLine("bench serve", argv, { env: {}, cwd: folder });
  if (line.kind !== "run") throw new Error("help came out");
  return line.flags;
}

const plan = (...argv: string[]) => flagsOf(...argv).then((flags) => planBench(flags, {}));

describe("arrivals", () => {
  const constant = { rate: 10, burstiness: 1, rampUp: null };

  it("meet the rate exactly, are sorted, and repeat with the seed", () => {
    const times = planArrivals(200, constant, new RandomSource(3));
    expect(times.at(-1)).toBeCloseTo(20, 9);
    expect([...times].sort((a, b) => a - b)).toEqual(times);
    expect(planArrivals(200, constant, new RandomSource(3))).toEqual(times);
    expect(planArrivals(200, constant, new RandomSource(4))).not.toEqual(times);
  });

  it("have gaps of the gamma distribution asked for", () => {
    for (const burstiness of [0.25, 1, 4]) {
      const times = planArrivals(20_000, { ...constant, burstiness }, new RandomSource(1));
      const gaps = times.slice(1).map((time, index) => time - times[index]!);
      const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
      const variance = gaps.reduce((a, b) => a + (b - mean) ** 2, 0) / gaps.length;
      expect(mean).toBeCloseTo(0.1, 2);
      expect(mean ** 2 / variance / burstiness).toBeGreaterThan(0.9);
      expect(mean ** 2 / variance / burstiness).toBeLessThan(1.1);
    }
  });

  it("come at once at an infinite rate, and faster and faster when ramped up", () => {
    const atOnce = { ...constant, rate: Number.POSITIVE_INFINITY };
    expect(planArrivals(3, atOnce, new RandomSource(1))).toEqual([0, 0, 0]);
    const rampUp = { strategy: "linear" as const, startRps: 1, endRps: 100 };
    const times = planArrivals(1000, { ...constant, rampUp }, new RandomSource(1));
    expect(times[100]!).toBeGreaterThan(5 * (times[999]! - times[899]!));
  });
});

describe("workloads", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(demoModel);
  });
  const make = async (...argv: string[]) => {
    const flags = await flagsOf(...argv);
    return makeRequests(flags, tokenizer, new RandomSource(flags.seed));
  };
  const tokens = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });

  it("random has the lengths asked for, and a common prefix", async () => {
    const args = ["--num-prompts", "8", "--random-input-len", "40", "--random-output-len", "9"];
    const requests = await make(...args);
    expect(requests.map(({ outputLen }) => outputLen)).toEqual(Array(8).fill(9));
    for (const { prompt, promptLen } of requests) {
      expect(tokens(prompt)).toHaveLength(promptLen);
      expect(Math.abs(promptLen - 40)).toBeLessThanOrEqual(2);
    }
    expect(await make(...args)).toEqual(requests);
    expect(await make(...args, "--seed", "1")).not.toEqual(requests);
    const varied = await make(...args, "--random-range-ratio", "0.5", "--random-prefix-len", "30");
    const starts = new Set(varied.map(({ prompt }) => prompt.slice(0, 20)));
    expect(starts.size).toBe(1);
    expect(new Set(varied.map(({ outputLen }) => outputLen)).size).toBeGreaterThan(1);
  });

  it("prefix_repetition shares each prefix evenly", async () => {
    const requests = await make(
      ...["--dataset-name", "prefix_repetition", "--num-prompts", "6"],
      ...["--prefix-repetition-num-prefixes", "2", "--prefix-repetition-prefix-len", "20"],
      ...["--prefix-repetition-suffix-len", "5", "--prefix-repetition-output-len", "3"],
    );
    const starts = requests.map(({ prompt }) => prompt.slice(0, 15));
    expect(new Set(starts).size).toBe(2);
    expect(starts.filter((start) => start === starts[0])).toHaveLength(3);
  });

  it("sharegpt takes first turns and leaves out what is too short or long", async () => {
    const file = join(folder, "talks.json");
    const talk = (question: string, answer: string) => ({
      conversations: [{ value: question }, { value: answer }],
    });
    const good = talk(
      "What is the capital of France, please?",
      "It is Paris, of course, and it is old.",
    );
    const talks = [talk("a", "b"), good, talk("word ".repeat(3000), "x"), { conversations: [] }];
    writeFileSync(file, JSON.stringify(talks));
    const args = ["--dataset-name", "sharegpt", "--dataset-path", file, "--num-prompts", "3"];
    const requests = await make(...args);
    expect(requests.map(({ prompt }) => prompt)).toEqual(
      Array(3).fill("What is the capital of France, please?"),
    );
    expect((await make(...args, "--sharegpt-output-len", "7"))[0]!.outputLen).toBe(7);
  });

  it("mooncake shares the texts that hash ids share, at the trace's times", async () => {
    const file = join(folder, "trace.jsonl");
    const entry = (timestamp: number, input_length: number, ...hash_ids: number[]) =>
      JSON.stringify({ timestamp, input_length, output_length: 6, hash_ids });
    const trace = [entry(1000, 1024, 7, 8), "", entry(1000, 1536, 7, 8, 9), entry(4000, 600, 5, 8)];
    writeFileSync(file, trace.join("\n"));
    const args = ["--dataset-name", "mooncake", "--dataset-path", file];
    const requests = await make(...args, "--mooncake-block-len", "32");
    expect(requests.map(({ arrivalS, outputLen }) => [arrivalS, outputLen])).toEqual([
      ...[[0, 6]],
      ...[[0, 6]],
      ...[[3, 6]],
    ]);
    const [first, second, third] = requests.map(({ prompt }) => tokens(prompt));
    // Where two random texts meet a token may join them, so lengths are met but for a few.
    for (const [given, wanted] of [
      [first!, 64],
      [second!, 96],
      [third!, 38],
    ] as const) {
      expect(Math.abs(given.length - wanted)).toBeLessThanOrEqual(2);
    }
    expect(requests.map(({ promptLen }) => promptLen)).toEqual(
      [first, second, third].map((ids) => ids!.length),
    );
    expect(second!.slice(0, 56)).toEqual(first!.slice(0, 56));
    expect(third!.slice(0, 8)).not.toEqual(first!.slice(0, 8));
    const whole = await make(...args, "--mooncake-time-scale", "0.5", "--output-len", "2");
    expect(whole.map(({ arrivalS, outputLen }) => [arrivalS, outputLen])[2]).toEqual([1.5, 2]);
    expect(Math.abs(whole[1]!.promptLen - 1536)).toBeLessThanOrEqual(2);
    expect(await make(...args, "--num-prompts", "2")).toHaveLength(2);
  });

  it("mooncake says what is wrong with a trace", async () => {
    const file = join(folder, "bad-trace.jsonl");
    const args = ["--dataset-name", "mooncake", "--dataset-path", file];
    const said = (text: string) => {
      writeFileSync(file, text);
      return expect(make(...args)).rejects;
    };
    const entry = { timestamp: 0, input_length: 600, output_length: 1, hash_ids: [1] };
    await said(JSON.stringify(entry)).toThrow("request 1: 600 input tokens are 2 hash_ids, not 1");
    await said(JSON.stringify({ ...entry, input_length: 0 })).toThrow("request 1: input_length: ");
    await said('{"timestamp": ').toThrow("bad-trace.jsonl cannot be used: ");
    await said("\n").toThrow("it has no request that can be sent");
  });

  it("custom reads lines, and says what is wrong with a file", async () => {
    const file = join(folder, "own.jsonl");
    writeFileSync(file, '{"prompt": "a b", "output_tokens": 4}\n\n{"prompt": "c"}\n');
    const args = ["--dataset-name", "custom", "--dataset-path", file, "--disable-shuffle"];
    const requests = await make(...args, "--num-prompts", "2", "--custom-output-len", "6");
    expect(requests.map(({ prompt, outputLen }) => [prompt, outputLen])).toEqual([
      ["a b", 6],
      ["c", 6],
    ]);
    await expect(make(...args, "--custom-output-len", "-1")).rejects.toThrow("output_tokens");
    await expect(make("--dataset-name", "custom")).rejects.toThrow("--dataset-path FILE");
    await expect(make(...args.slice(0, 3), "/nope")).rejects.toThrow("/nope cannot be used");
  });
});

describe("flags of bench serve", () => {
  it("make the request", async () => {
    const { target, report, baseUrl } = await plan(
      ...["--backend", "openai-chat", "--port", "9", "--ignore-eos", "--logprobs", "2"],
      ...["--temperature", "0", "--extra-body", '{"top_k": 3}', "--header", "X-A=b=c"],
      ...["--metric-percentiles", "50,99.9", "--request-rate", "inf"],
    );
    expect(baseUrl).toBe("http://127.0.0.1:9");
    expect(target.url).toBe("http://127.0.0.1:9/v1/chat/completions");
    expect(target.headers).toEqual({ "X-A": "b=c" });
    expect(target.extraBody).toEqual({
      ignore_eos: true,
      logprobs: true,
      top_logprobs: 2,
      temperature: 0,
      top_k: 3,
    });
    expect(report).toMatchObject({
      percentiles: [50, 99.9],
      requestRate: Number.POSITIVE_INFINITY,
    });
  });

  it.each([
    [["--percentile-metrics", "ttft,foo"], "invalid choice: 'foo'"],
    [["--metric-percentiles", "101"], "invalid float value: '101'"],
    [["--goodput", "ttft:-1"], "should be non-negative"],
    [["--goodput", "itl:1"], "Invalid metric name found, itl"],
    [["--header", "nope"], "is not KEY=VALUE"],
    [["--endpoint", "/v1/embeddings"], "does not fit --backend openai"],
    [["--request-rate", "0"], "argument --request-rate: invalid float value: '0'"],
    [["--ramp-up-strategy", "linear"], "both --ramp-up-start-rps"],
    [["--ramp-up-strategy", "linear", "--request-rate", "2"], "do not specify --request-rate"],
    [["--no-stream"], "not supported: requests are streamed"],
  ])("%j are refused", async (argv, message) => {
    await expect(plan(...(argv as string[]))).rejects.toThrow(message as string);
  });
});
