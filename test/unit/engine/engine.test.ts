import { getEventListeners } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { Engine } from "../../../src/engine/index.js";
import type { GenerateOutput } from "../../../src/engine/types.js";
import { UcmError } from "../../../src/errors/index.js";
import { type Bench, collect, joinDeltas, makeBench, makeRequest, says } from "./bench.js";

const bytes = (text: string) => [...Buffer.from(text)];

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await nextTurn();
}

/** Starts a request and waits until its first step is in flight and held there. */
async function startHeld(bench: Bench, signal?: AbortSignal) {
  bench.executor.hold();
  const stream = bench.engine.generate(makeRequest({ maxTokens: 40 }), signal);
  await until(() => bench.executor.steps.length === 1);
  return stream;
}

describe("streams", () => {
  it("send one output per token and end with the reason", async () => {
    const { engine } = makeBench({ nextToken: says(bytes("hello")) });
    const outputs = await collect(engine.generate(makeRequest({ maxTokens: 5 })));
    expect(outputs.map(({ delta }) => delta.text)).toEqual(["h", "e", "l", "l", "o"]);
    expect(outputs.map(({ delta }) => delta.finishReason)).toEqual([
      null,
      null,
      null,
      null,
      "length",
    ]);
    expect(joinDeltas(outputs).tokenIds).toEqual(bytes("hello"));
    expect(engine.stats()).toMatchObject({
      running: 0,
      waiting: 0,
      usedBlocks: 0,
      promptTokens: 3,
      generatedTokens: 5,
    });
  });

  it("keep half a character until it is whole, and let it go at the end", async () => {
    const { engine } = makeBench({ nextToken: says(bytes("aé")) });
    const whole = await collect(engine.generate(makeRequest({ maxTokens: 3 })));
    expect(whole.map(({ delta }) => delta.text)).toEqual(["a", "", "é"]);
    const cut = await collect(engine.generate(makeRequest({ maxTokens: 2 })));
    expect(cut.map(({ delta }) => delta.text)).toEqual(["a", "\ufffd"]);
  });

  it("count the token that stops, but not its text", async () => {
    const { engine, tokenizer } = makeBench({ nextToken: says([...bytes("hi"), 256]) });
    const eosTokenIds = [tokenizer.eosTokenId];
    const sampling = { eosTokenIds, skipSpecialTokens: false };
    expect(joinDeltas(await collect(engine.generate(makeRequest(sampling))))).toEqual({
      text: "hi",
      tokenIds: [...bytes("hi"), tokenizer.eosTokenId],
      finishReason: "stop",
      stopReason: null,
    });
    const included = makeRequest({ ...sampling, includeStopStrInOutput: true });
    expect(joinDeltas(await collect(engine.generate(included))).text).toBe("hi<eos>");
    const stopToken = makeRequest({ stopTokenIds: bytes("i") });
    expect(joinDeltas(await collect(engine.generate(stopToken)))).toMatchObject({
      text: "h",
      finishReason: "stop",
      stopReason: bytes("i")[0],
    });
  });

  it("carry token ids alone when text is not wanted", async () => {
    const { config, executor } = makeBench({ nextToken: says([300]), model: { vocabSize: 400 } });
    const engine = new Engine({ config, executor, tokenizer: null });
    const outputs = await collect(
      engine.generate(makeRequest({ maxTokens: 2 }, { detokenize: false })),
    );
    expect(joinDeltas(outputs)).toMatchObject({ text: "", tokenIds: [300, 300] });
  });

  it("tell when things happened", async () => {
    let now = 100;
    const { engine } = makeBench({ clock: () => now++ });
    const outputs = await collect(engine.generate(makeRequest({ maxTokens: 3 })));
    expect(outputs.map(({ times }) => times)).toEqual([
      { arrivalMs: 100, scheduledMs: 101, firstTokenMs: 102, lastTokenMs: 102 },
      { arrivalMs: 100, scheduledMs: 101, firstTokenMs: 102, lastTokenMs: 104 },
      { arrivalMs: 100, scheduledMs: 101, firstTokenMs: 102, lastTokenMs: 106 },
    ]);
  });

  it("carry log-probabilities per token, and the prompt's with the first output", async () => {
    const { engine, executor } = makeBench({
      nextToken: says(bytes("ab")),
      scheduler: { maxNumBatchedTokens: 2 },
    });
    const request = makeRequest(
      { n: 2, logprobs: 1, promptLogprobs: 2, maxTokens: 2 },
      { promptTokenIds: [10, 20, 30, 40, 50] },
    );
    const outputs = await collect(engine.generate(request));
    expect(outputs[0]!.promptLogprobs).toEqual([
      null,
      ...[20, 30, 40, 50].map((id) => ({
        tokenIds: [id, id + 1, id + 2],
        logprobs: [-id, -id - 1, -id - 2],
        rank: 1,
      })),
    ]);
    for (const output of outputs.slice(1)) expect(output.promptLogprobs).toBeNull();
    expect([...executor.samplings.values()].map((s) => s.promptLogprobs)).toEqual([2, null]);
    for (const { delta } of outputs) {
      const id = delta.tokenIds[0]!;
      expect(delta.logprobs).toEqual([
        { tokenIds: [id, id + 1], logprobs: [-id, -id - 1], rank: 1 },
      ]);
    }
  });

  it("of n sequences are separate, with seeds that count up", async () => {
    const { engine, executor } = makeBench();
    const outputs = await collect(engine.generate(makeRequest({ n: 3, seed: 40, maxTokens: 4 })));
    for (const index of [0, 1, 2]) {
      expect(joinDeltas(outputs, index)).toMatchObject({ finishReason: "length" });
      expect(joinDeltas(outputs, index).tokenIds).toHaveLength(4);
    }
    expect([...executor.samplings.values()].map(({ seed }) => seed)).toEqual([40, 41, 42]);
    expect(executor.steps[0]!.scheduled).toHaveLength(3);
  });
});

describe("stop strings", () => {
  const pieces = ["He", "llo", " wor", "ld. E", "N", "D. More"];
  const nextToken = says(pieces.map((_, i) => 256 + i));

  it("end a sequence across token borders; the scheduler lets go of it at once", async () => {
    const { engine, executor } = makeBench({ pieces, nextToken });
    const outputs = await collect(engine.generate(makeRequest({ stop: ["END"], maxTokens: 50 })));
    expect(joinDeltas(outputs)).toEqual({
      text: "Hello world. ",
      tokenIds: [256, 257, 258, 259, 260, 261],
      finishReason: "stop",
      stopReason: "END",
    });
    expect(outputs.map(({ delta }) => delta.text)).toEqual(["", "Hel", "lo w", "orld.", " ", ""]);
    expect(engine.stats().usedBlocks).toBe(0);
    expect(executor.steps).toHaveLength(6);
  });

  it("are part of the text when asked", async () => {
    const { engine } = makeBench({ pieces, nextToken });
    const request = makeRequest({ stop: ["END"], includeStopStrInOutput: true, maxTokens: 50 });
    expect(joinDeltas(await collect(engine.generate(request))).text).toBe("Hello world. END");
  });

  it("count only after min_tokens outputs", async () => {
    const { engine } = makeBench({ pieces: ["stop", "-"], nextToken: says([256, 257, 256, 257]) });
    const stop = ["stop"];
    const early = makeRequest({ stop, minTokens: 0 });
    expect(joinDeltas(await collect(engine.generate(early))).text).toBe("");
    const late = makeRequest({ stop, minTokens: 2, maxTokens: 6 });
    expect(joinDeltas(await collect(engine.generate(late)))).toMatchObject({
      text: "stop-",
      stopReason: "stop",
    });
    const later = makeRequest({ stop, minTokens: 3, maxTokens: 6 });
    expect(joinDeltas(await collect(engine.generate(later)))).toMatchObject({
      text: "stop-stop---",
      finishReason: "length",
    });
  });

  it("let held text go when the sequence ends otherwise", async () => {
    const { engine } = makeBench({ pieces, nextToken });
    const outputs = await collect(engine.generate(makeRequest({ stop: ["never"], maxTokens: 2 })));
    expect(outputs.map(({ delta }) => delta.text)).toEqual(["", "Hello"]);
    expect(joinDeltas(outputs)).toMatchObject({ finishReason: "length", stopReason: null });
  });

  it("win over the length when the last token completes one", async () => {
    const { engine } = makeBench({ pieces, nextToken });
    const outputs = await collect(engine.generate(makeRequest({ stop: ["llo"], maxTokens: 2 })));
    expect(joinDeltas(outputs)).toMatchObject({
      text: "He",
      finishReason: "stop",
      stopReason: "llo",
    });
  });
});

describe("cancelling", () => {
  it("by leaving the iteration frees at once, with a step in flight", async () => {
    const bench = makeBench();
    const stream = await startHeld(bench);
    expect(bench.engine.stats()).toMatchObject({ running: 1, usedBlocks: 1 });
    await stream.return!();
    expect(bench.engine.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    bench.executor.release();
    await bench.engine.drain();
    expect(bench.executor.steps).toHaveLength(1);
  });

  it("by break ends the work", async () => {
    const { engine, executor } = makeBench();
    let seen = 0;
    for await (const _ of engine.generate(makeRequest({ maxTokens: 50 }))) {
      if (++seen === 3) break;
    }
    expect(engine.stats().usedBlocks).toBe(0);
    await engine.drain();
    expect(executor.steps.length).toBeLessThanOrEqual(4);
  });

  it("by signal frees at once and ends each sequence with abort", async () => {
    const bench = makeBench();
    const controller = new AbortController();
    const stream = await startHeld(bench, controller.signal);
    controller.abort();
    expect(bench.engine.stats().usedBlocks).toBe(0);
    expect(joinDeltas(await collect(stream))).toEqual({
      text: "",
      tokenIds: [],
      finishReason: "abort",
      stopReason: null,
    });
    bench.executor.release();
    const again = bench.engine.generate(makeRequest({ n: 2 }), controller.signal);
    const outputs = await collect(again);
    expect(outputs.map(({ delta }) => [delta.index, delta.finishReason])).toEqual([
      [0, "abort"],
      [1, "abort"],
    ]);
  });

  it("lets held text go, so that text and tokens agree", async () => {
    const { engine } = makeBench({ nextToken: says(bytes("abcdef")) });
    const controller = new AbortController();
    const outputs: GenerateOutput[] = [];
    const request = makeRequest({ stop: ["12345"], maxTokens: 40 });
    for await (const output of engine.generate(request, controller.signal)) {
      outputs.push(output);
      if (outputs.length === 3) controller.abort();
    }
    const { text, tokenIds, finishReason } = joinDeltas(outputs);
    expect(bytes(text)).toEqual(tokenIds);
    expect(finishReason).toBe("abort");
  });

  it("sends the end even when the prompt's log-probabilities are not complete", async () => {
    const bench = makeBench();
    bench.executor.hold();
    const controller = new AbortController();
    const stream = bench.engine.generate(makeRequest({ promptLogprobs: 1 }), controller.signal);
    await until(() => bench.executor.steps.length === 1);
    controller.abort();
    const [output] = await collect(stream);
    expect(output).toMatchObject({ promptLogprobs: null, delta: { finishReason: "abort" } });
    bench.executor.release();
  });

  it("leaves no listener on the signal, however the request ends", async () => {
    const bench = makeBench();
    const { signal } = new AbortController();
    await collect(bench.engine.generate(makeRequest({ n: 2 }), signal));
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    const stream = bench.engine.generate(makeRequest(), signal);
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    await stream.return!();
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  it("spares the others", async () => {
    const { engine } = makeBench();
    const alone = joinDeltas(await collect(engine.generate(makeRequest({ maxTokens: 9 }))));
    const controller = new AbortController();
    const other = collect(engine.generate(makeRequest({ maxTokens: 50 }), controller.signal));
    const stays = collect(engine.generate(makeRequest({ maxTokens: 9 })));
    setImmediate(() => controller.abort());
    expect(joinDeltas(await stays)).toEqual(alone);
    expect(joinDeltas(await other).finishReason).toBe("abort");
  });
});

describe("the death of the workers", () => {
  it("fails the one request that the worker cannot choose a token for", async () => {
    const bench = makeBench();
    const error = { code: "UCM_ERR_INVALID_REQUEST", message: "forbidden", param: null } as const;
    bench.executor.failing.set(0, error);
    const outcomes = await Promise.allSettled([
      collect(bench.engine.generate(makeRequest({ maxTokens: 4 }))),
      collect(bench.engine.generate(makeRequest({ maxTokens: 4, ignoreEos: true }))),
    ]);
    expect(outcomes[0]).toMatchObject({ status: "rejected", reason: error });
    expect(outcomes[1]).toMatchObject({ status: "fulfilled" });
    expect(bench.engine.failure).toBe(null);
    expect(bench.engine.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
  });

  it("fails every request once, and all later ones, with the same error", async () => {
    const bench = makeBench({ scheduler: { maxNumSeqs: 1 } });
    const running = await startHeld(bench);
    const waiting = bench.engine.generate(makeRequest());
    const death = new UcmError("UCM_ERR_WORKER", "Worker 0 was killed by SIGKILL.");
    bench.executor.die(death);
    for (const stream of [running, waiting]) {
      await expect(stream.next()).rejects.toBe(death);
      expect(await stream.next()).toEqual({ value: undefined, done: true });
    }
    expect(() => bench.engine.generate(makeRequest())).toThrow(death);
    expect(bench.engine.failure).toBe(death);
    expect(bench.engine.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    await bench.engine.drain();
  });

  it("comes after what was generated before it", async () => {
    const { engine, executor } = makeBench();
    const stream = engine.generate(makeRequest({ maxTokens: 40 }));
    await stream.next();
    const numSteps = executor.steps.length;
    await until(() => executor.steps.length > numSteps + 2);
    executor.die(new Error("pipe closed"));
    await until(() => engine.failure !== null);
    const received: GenerateOutput[] = [];
    const reading = (async () => {
      for await (const output of stream) received.push(output);
    })();
    await expect(reading).rejects.toMatchObject({
      code: "UCM_ERR_INTERNAL",
      message: "pipe closed",
    });
    expect(received.length).toBeGreaterThan(1);
  });

  it("is told from a tokenizer that trips over one request", async () => {
    const { engine } = makeBench({
      model: { vocabSize: 1000 },
      nextToken: (known) => (known[0] === 9 ? 999 : 65),
    });
    const bad = collect(engine.generate(makeRequest({}, { promptTokenIds: [9] })));
    const good = collect(engine.generate(makeRequest({ maxTokens: 3 })));
    await expect(bad).rejects.toThrow("no token 999");
    expect(joinDeltas(await good).text).toBe("AAA");
    expect(engine.failure).toBeNull();
    expect(engine.stats().usedBlocks).toBe(0);
  });
});

describe("closing", () => {
  it("by drain refuses new requests and waits for the others", async () => {
    const bench = makeBench();
    const stream = await startHeld(bench);
    let isDrained = false;
    const draining = bench.engine.drain().then(() => {
      isDrained = true;
    });
    expect(() => bench.engine.generate(makeRequest())).toThrow(
      expect.objectContaining({ code: "UCM_ERR_SHUTTING_DOWN", httpStatus: 503 }),
    );
    await nextTurn();
    expect(isDrained).toBe(false);
    bench.executor.release();
    expect(joinDeltas(await collect(stream)).finishReason).toBe("length");
    await draining;
  });

  it("by stop aborts what runs and waits", async () => {
    const bench = makeBench({ scheduler: { maxNumSeqs: 1 } });
    const streams = [await startHeld(bench), bench.engine.generate(makeRequest())];
    const stopping = bench.engine.stop();
    for (const stream of streams) {
      expect(joinDeltas(await collect(stream)).finishReason).toBe("abort");
    }
    bench.executor.release();
    await stopping;
    expect(() => bench.engine.generate(makeRequest())).toThrow("shutting down");
    expect(bench.executor.steps).toHaveLength(1);
  });

  it("of an idle engine is done at once", async () => {
    const { engine } = makeBench();
    await engine.drain();
    await engine.stop();
  });
});

describe("refusals", () => {
  it("come at the call", () => {
    const { engine, config, executor } = makeBench();
    const refuse = (request: ReturnType<typeof makeRequest>, code: string, text: string) =>
      expect(() => engine.generate(request)).toThrow(
        expect.objectContaining({ code, message: expect.stringContaining(text) }),
      );
    refuse(makeRequest({}, { promptTokenIds: [] }), "UCM_ERR_INVALID_REQUEST", "cannot be empty");
    refuse(
      makeRequest({}, { promptTokenIds: [3, 257] }),
      "UCM_ERR_INVALID_REQUEST",
      "Token id 257 is out of vocabulary",
    );
    refuse(
      makeRequest({ maxTokens: 62 }),
      "UCM_ERR_CONTEXT_LENGTH",
      "maximum context length is 64 tokens. However, you requested 62 output tokens and your prompt " +
        "contains at least 3 input tokens, for a total of at least 65 tokens.",
    );
    refuse(
      makeRequest({ stop: ["a"] }, { detokenize: false }),
      "UCM_ERR_INVALID_REQUEST",
      "stop strings are only supported when detokenize is True",
    );
    const textless = new Engine({ config, executor, tokenizer: null });
    expect(() => textless.generate(makeRequest())).toThrow("--skip-tokenizer-init");
    expect(executor.steps).toHaveLength(0);
  });

  it("include a full queue, which leaves no trace", async () => {
    const { engine } = makeBench({ scheduler: { maxNumSeqs: 1, maxNumQueuedRequests: 1 } });
    const accepted = [engine.generate(makeRequest()), engine.generate(makeRequest())];
    expect(() => engine.generate(makeRequest())).toThrow(
      expect.objectContaining({ code: "UCM_ERR_QUEUE_FULL", httpStatus: 429 }),
    );
    for (const stream of accepted) {
      expect(joinDeltas(await collect(stream)).finishReason).toBe("length");
    }
    expect(joinDeltas(await collect(engine.generate(makeRequest()))).finishReason).toBe("length");
  });

  it("include a request that the cache can never hold", () => {
    const { engine } = makeBench({ cache: { numBlocks: 4 } });
    expect(() => engine.generate(makeRequest({ maxTokens: 15 }))).toThrow(
      expect.objectContaining({
        code: "UCM_ERR_CONTEXT_LENGTH",
        message: expect.stringContaining("the longest that fits is 17 tokens"),
      }),
    );
  });
});

describe("the event loop", () => {
  it("turns between steps, even when the executor answers at once", async () => {
    const { engine } = makeBench();
    let turns = 0;
    let isDone = false;
    const count = () => {
      turns += 1;
      if (!isDone) setImmediate(count);
    };
    setImmediate(count);
    await collect(engine.generate(makeRequest({ maxTokens: 40 })));
    isDone = true;
    expect(turns).toBeGreaterThanOrEqual(40);
  });

  it("lets requests of the same turn start in the same step", async () => {
    const { engine, executor } = makeBench();
    await Promise.all([1, 2, 3].map(() => collect(engine.generate(makeRequest()))));
    expect(executor.steps[0]!.scheduled).toHaveLength(3);
  });
});
