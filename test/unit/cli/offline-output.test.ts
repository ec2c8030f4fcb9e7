import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openRecordFile, textOutput } from "../../../src/cli/offline-output.js";
import { metricsOf, type PromptResult, toRecord } from "../../../src/cli/offline-record.js";
import { OfflineSummary } from "../../../src/cli/offline-summary.js";
import { UcmError } from "../../../src/errors/index.js";
import { defaultSamplingParams } from "../../../src/messages/index.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

function resultOf(index: number, ...texts: string[]): PromptResult {
  return {
    request: {
      index,
      prompt: `prompt ${index}`,
      request: {
        requestId: `offline-${index}`,
        promptTokenIds: [1, 2, 3],
        sampling: { ...defaultSamplingParams },
        priority: 0,
        cacheSalt: null,
        detokenize: true,
      },
    },
    sequences: texts.map((text) => ({
      text,
      tokenIds: [7, 8, 9],
      logprobs: null,
      finishReason: "length",
      stopReason: null,
    })),
    promptLogprobs: null,
    numCachedTokens: 0,
    times: { arrivalMs: 10, scheduledMs: 12, firstTokenMs: 30, lastTokenMs: 50 },
    error: null,
  };
}

describe("textOutput", () => {
  it("streams the prompt whose turn it is and holds back later ones", () => {
    const chunks: string[] = [];
    const output = textOutput({ write: (text) => chunks.push(text) }, true);
    output.addText(1, "later");
    output.addText(0, "fi");
    output.addText(0, "rst");
    expect(chunks).toEqual(["fi", "rst"]);
    output.finish(resultOf(1, "later"));
    expect(chunks).toEqual(["fi", "rst"]);
    output.finish(resultOf(0, "first"));
    output.close();
    expect(chunks.join("")).toBe("first\nlater\n");
  });

  it("shows what the next prompt has so far as soon as it is its turn", () => {
    let text = "";
    const output = textOutput({ write: (chunk) => (text += chunk) }, true);
    output.addText(1, "half");
    output.finish(resultOf(0, ""));
    expect(text).toBe("\nhalf");
    output.addText(1, " done");
    output.finish(resultOf(1, "half done"));
    expect(text).toBe("\nhalf done\n");
  });

  it("writes further sequences after the first, and token ids without a tokenizer", () => {
    let text = "";
    textOutput({ write: (chunk) => (text += chunk) }, false).finish(resultOf(0, ""));
    expect(text).toBe("[7,8,9]\n");
    text = "";
    const output = textOutput({ write: (chunk) => (text += chunk) }, true);
    output.addText(0, "one");
    output.finish(resultOf(0, "one", "two"));
    expect(text).toBe("one\ntwo\n");
  });
});

describe("openRecordFile", () => {
  it("writes records in order, those left over on close", () => {
    const path = join(makeTempFolder(), "o.jsonl");
    const output = openRecordFile(path, null);
    output.finish(resultOf(1, "b"));
    output.finish(resultOf(0, "a"));
    output.finish(resultOf(3, "d"));
    expect(readFileSync(path, "utf8").trim().split("\n")).toHaveLength(2);
    output.close();
    const lines = readFileSync(path, "utf8").trim().split("\n");
    expect(lines.map((line) => JSON.parse(line).index)).toEqual([0, 1, 3]);
  });

  it("names a path that cannot be written", () => {
    expect(() => openRecordFile("/no/such/folder/o.jsonl", null)).toThrow(
      /^Cannot write the output file \/no\/such\/folder\/o\.jsonl: /,
    );
  });
});

describe("toRecord", () => {
  it("has exactly the agreed fields", () => {
    expect(toRecord(resultOf(0, "text"), null)).toEqual({
      index: 0,
      prompt: "prompt 0",
      prompt_token_ids: [1, 2, 3],
      text: "text",
      token_ids: [7, 8, 9],
      finish_reason: "length",
      stop_reason: null,
      usage: { prompt_tokens: 3, completion_tokens: 3, cached_tokens: 0 },
      metrics: { ttft_ms: 20, tpot_ms: 10, e2e_ms: 40 },
    });
  });

  it("adds logprobs, the outputs of n > 1, and the error of a failed prompt", () => {
    const result = resultOf(0, "a", "b");
    result.sequences[0]!.logprobs = [{ tokenIds: [7, 5], logprobs: [-0.5, -0.4], rank: 2 }];
    result.error = new UcmError("UCM_ERR_WORKER", "gone");
    const record = toRecord(result, null) as Record<string, unknown>;
    expect(record.logprobs).toEqual([
      {
        token_id: 7,
        token: null,
        logprob: -0.5,
        rank: 2,
        top_logprobs: [{ token_id: 5, token: null, logprob: -0.4 }],
      },
    ]);
    expect(record.outputs).toMatchObject([
      { index: 0, text: "a" },
      { index: 1, text: "b" },
    ]);
    expect(record.error).toEqual({ code: "UCM_ERR_WORKER", message: "gone" });
  });

  it("has no times for a prompt that never ran", () => {
    expect(metricsOf({ ...resultOf(0, ""), times: null })).toEqual({
      ttft_ms: null,
      tpot_ms: null,
      e2e_ms: null,
    });
  });
});

describe("OfflineSummary", () => {
  it("adds up prompts, tokens and times, and tells failures", () => {
    const summary = new OfflineSummary();
    summary.add(resultOf(0, "a"));
    summary.add({ ...resultOf(1, "b"), error: new UcmError("UCM_ERR_WORKER", "gone") });
    const text = summary.render(3, 2000, 500);
    expect(text).toContain("2 of 3 done, 1 failed");
    expect(text).toContain("6 in, 6 out");
    expect(text).toContain("20.0 ms mean, 20.0 ms p99");
    expect(text).toContain("10.0 ms mean, 10.0 ms p99 (100.0 tokens/s per sequence)");
    expect(text).toContain("3.0 tokens/s in, 3.0 tokens/s out");
    expect(text).toContain("failed: prompt 1: gone");
    expect(summary.numFailed).toBe(1);
  });
});
