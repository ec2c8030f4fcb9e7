import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../helpers/serve.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { demoModel, root } from "../helpers/ucm-command.js";

/**
 * What a user of UCM sees from outside, over HTTP alone: its own test suite's cases for a server with a
 * KV cache store and with sparse attention, at its recommended block of 128 tokens.
 */

const BLOCK = 128;
const facts = JSON.parse(readFileSync(join(root, "models/ucm-demo/train/facts.json"), "utf8"));

const filler = [
  "The rain had stopped before noon, and the street was full of people again.",
  "Nobody in the house remembered who had planted the old apple tree.",
  "She folded the letter twice and put it away without a word.",
  "Two boats came slowly up the river while the children watched from the bridge.",
  "He had walked all the way from the station, and his shoes were white with dust.",
  "There was a light in the upper window, though it was long past midnight.",
  "The doctor laughed, shook his head, and asked for another cup of tea.",
  "At the end of the lane stood a small church with a broken bell.",
];

interface Needle {
  question: string;
  answer: string;
}

/** A text of about `sentences` sentences with a fact at `depth` (0 to 1), the question apart. */
function needleText(sentences: number, depth: number, salt: number): { text: string } & Needle {
  const fact: Record<string, string> = {
    attribute: facts.attributes[salt % facts.attributes.length],
    adjective: facts.adjectives[(salt * 7) % facts.adjectives.length],
    noun: facts.nouns[(salt * 3) % facts.nouns.length],
    value: String(41_000 + salt * 137),
  };
  const fill = (form: string) => form.replace(/\{(\w+)\}/g, (_, key) => fact[key]!);
  const lines = Array.from(
    { length: sentences },
    (_, index) => filler[(index * 5 + salt) % filler.length]!,
  );
  lines.splice(Math.floor(depth * lines.length), 0, fill(facts.statements[0]));
  const question = facts.plainQuestion.replace("{question}", fill(facts.questions[0]));
  return { text: lines.join(" "), question, answer: fact.value! };
}

// biome-ignore lint/suspicious/noExplicitAny: answers are JSON, which tests look into freely
type Json = any;

async function post(server: RunningServer, path: string, body: object = {}): Promise<Json> {
  const response = await fetch(server.url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  expect(response.status, text).toBe(200);
  return text === "" ? null : JSON.parse(text);
}

interface Answer {
  text: string;
  promptTokens: number;
  cachedTokens: number;
}

async function complete(
  server: RunningServer,
  prompt: string | number[],
  fields: object = {},
): Promise<Answer> {
  const body = { prompt, max_tokens: 12, temperature: 0, ...fields };
  const { choices, usage } = await post(server, "/v1/completions", body);
  return {
    text: choices[0].text,
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details.cached_tokens,
  };
}

const tokenize = async (server: RunningServer, prompt: string): Promise<number[]> =>
  (await post(server, "/tokenize", { prompt })).tokens;

const transfer = (name: string, config: object, extra: object = {}) => [
  "--kv-transfer-config",
  JSON.stringify({
    kv_connector: "UCMConnector",
    kv_connector_module_path: "ucm.integration.vllm.ucm_connector",
    kv_role: "kv_both",
    kv_connector_extra_config: {
      ...{ ucm_connector_name: name, ucm_connector_config: config, load_decision: "always" },
      ...extra,
    },
  }),
];

const nfs = (folder: string, extra: object = {}) =>
  transfer("UcmNfsStore", { storage_backends: folder }, extra);
const dram = (extra: object = {}) => transfer("UcmDram", { max_cache_size: 2 ** 28 }, extra);
const esa = (sparse_ratio: number) => ({
  ...{ ucm_sparse_method: "ESA", ucm_sparse_config: { ESA: { sparse_ratio } } },
});

/** 2047 is no multiple of a block, as in UCM's own suite. */
const common = [
  ...["--block-size", String(BLOCK), "--max-num-batched-tokens", "2047", "--max-num-seqs", "20"],
  ...["--kv-cache-memory-bytes", "256M", "--max-model-len", "8K"],
];
const env = { PYTHONHASHSEED: "123456", VLLM_SERVER_DEV_MODE: "1" };

const start = (...args: string[]) => startServer([demoModel, ...common, ...args], { env });

/** Blocks that can be found of a prompt: all full ones but that of its last token. */
const findable = (tokens: number) => Math.floor((tokens - 1) / BLOCK) * BLOCK;

const long = needleText(260, 0.4, 3);
const LONG = long.text + long.question;

let dense: RunningServer;
const folder = makeTempFolder();

beforeAll(async () => {
  dense = await start(...nfs(folder));
});
afterAll(() => dense?.stop());

describe("a server with a KV cache store", () => {
  it("1: answers UCM's suite for an existing server", async () => {
    expect((await fetch(`${dense.url}/health`)).status).toBe(200);
    const { data } = (await (await fetch(`${dense.url}/v1/models`)).json()) as Json;
    expect(data[0].id).toBe(demoModel);
    const messages = [{ role: "user", content: long.text.slice(0, 2000) + long.question }];
    const fields = { temperature: 0, top_p: 0.95, max_tokens: 16, ignore_eos: true };
    const body = { model: demoModel, messages, ...fields };
    const whole = await post(dense, "/v1/chat/completions", body);
    expect(whole.usage.completion_tokens).toBe(16);
    const reset = await fetch(`${dense.url}/reset_prefix_cache`, { method: "POST" });
    expect(reset.status).toBe(200);
    const query = "wait_for_inflight_requests=false&clear_cache=true";
    expect(await post(dense, `/pause?${query}`)).toEqual({ status: "paused" });
    await post(dense, "/resume");
    const response = await fetch(`${dense.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, stream: true }),
    });
    const events = (await response.text()).trim().split("\n\n");
    expect(events.at(-1)).toBe("data: [DONE]");
    const parts = events.slice(0, -1).map((event) => JSON.parse(event.slice("data: ".length)));
    const text = parts.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
    expect(text).toBe(whole.choices[0].message.content);
    expect((await fetch(`${dense.url}/metrics`)).status).toBe(200);
  });

  it("2, 5: answers the same prompt the same, from the store, in odd chunks", async () => {
    const first = await complete(dense, LONG);
    expect(first.promptTokens).toBeGreaterThan(2 * 2047);
    expect(first.cachedTokens).toBe(0);
    expect(first.text).toContain(long.answer);
    const again = async () => {
      await post(dense, "/reset_prefix_cache");
      return complete(dense, LONG);
    };
    const hits = findable(first.promptTokens);
    // Blocks are written beside the answers, so the first look may come before them.
    await expect
      .poll(async () => (await again()).cachedTokens, { timeout: 60_000, interval: 500 })
      .toBe(hits);
    expect((await again()).text).toBe(first.text);
    expect(dense.output()).toMatch(
      new RegExp(
        `prompt tokens: ${first.promptTokens}, computed: ${first.promptTokens - hits}, hit in KV cache: 0, in DRAM: 0, in files: ${hits}`,
      ),
    );
  });

  it("3: mixes hits of the arena and the store after half a prompt", async () => {
    const tokens = await tokenize(dense, LONG);
    const half = tokens.slice(0, Math.floor(tokens.length / 2));
    await post(dense, "/reset_prefix_cache");
    const expected = await complete(dense, LONG);
    await post(dense, "/reset_prefix_cache");
    await complete(dense, half, { max_tokens: 1 });
    const mixed = await complete(dense, LONG);
    expect(mixed).toEqual(expected);
    expect(mixed.cachedTokens).toBe(findable(tokens.length));
    const inArena = Math.floor(half.length / BLOCK) * BLOCK;
    expect(dense.output()).toMatch(
      new RegExp(
        `hit in KV cache: ${inArena}, in DRAM: 0, in files: ${mixed.cachedTokens - inArena}`,
      ),
    );
  });

  it("11: holds a conversation of many turns, each answered as from nothing", async () => {
    const turns = [0, 1, 2, 3].map((salt) => needleText(16, 0.5, 20 + salt));
    const messages: { role: string; content: string }[] = [];
    for (const [index, { text, question }] of turns.entries()) {
      messages.push({ role: "user", content: text + question });
      const body = { messages, temperature: 0, max_tokens: 12 };
      const salted = { ...body, cache_salt: `cold ${index}` };
      const cold = await post(dense, "/v1/chat/completions", salted);
      const warm = await post(dense, "/v1/chat/completions", body);
      expect(cold.usage.prompt_tokens_details.cached_tokens).toBe(0);
      expect(warm.choices[0].message.content).toBe(cold.choices[0].message.content);
      const cached = warm.usage.prompt_tokens_details.cached_tokens;
      if (index > 0) expect(cached).toBeGreaterThanOrEqual(findable(index * 100));
      messages.push({ role: "assistant", content: warm.choices[0].message.content });
    }
  });

  it("12: answers twelve at a time as one after the other", async () => {
    const prompts = Array.from({ length: 12 }, (_, salt) => {
      const { text, question } = needleText(10 + 4 * salt, 0.7, 40 + salt);
      return text + question;
    });
    const textOf = async (prompt: string) =>
      (await complete(dense, prompt, { ignore_eos: true })).text;
    const sequential: string[] = [];
    for (const prompt of prompts) sequential.push(await textOf(prompt));
    await post(dense, "/reset_prefix_cache");
    expect(await Promise.all(prompts.map(textOf))).toEqual(sequential);
  });

  it("4: finds blocks in files after a restart, and none in memory", async () => {
    const restarted = async (...args: string[]) => {
      const server = await start(...args);
      try {
        return await complete(server, LONG);
      } finally {
        await server.stop();
      }
    };
    const expected = await complete(dense, LONG);
    const fromFiles = await restarted(...nfs(folder));
    expect(fromFiles).toEqual({ ...expected, cachedTokens: findable(expected.promptTokens) });
    await restarted(...dram());
    expect(await restarted(...dram())).toEqual({ ...expected, cachedTokens: 0 });
  });

  it("6: answers with two workers as with one", async () => {
    const server = await start(...nfs(makeTempFolder()), "--tensor-parallel-size", "2");
    try {
      const expected = await complete(dense, LONG, { ignore_eos: true, max_tokens: 24 });
      const { text } = await complete(server, LONG, { ignore_eos: true, max_tokens: 24 });
      expect(text).toBe(expected.text);
      await post(server, "/reset_prefix_cache");
      expect((await complete(server, LONG, { ignore_eos: true, max_tokens: 24 })).text).toBe(text);
    } finally {
      await server.stop();
    }
  });
});

describe("a server with sparse attention", () => {
  let sparse: RunningServer;
  beforeAll(async () => {
    sparse = await start(...dram(esa(0.3)));
  });
  afterAll(() => sparse?.stop());

  it("7: finds the fact at prompts of whole blocks, one token more and one less", async () => {
    const { text, question, answer } = needleText(120, 0.3, 61);
    const end = await tokenize(dense, question);
    const start = await tokenize(dense, text);
    const blocks = Math.floor((start.length + end.length) / BLOCK);
    for (const length of [-1, 0, 1].map((off) => blocks * BLOCK + off)) {
      const prompt = [...start.slice(start.length + end.length - length), ...end];
      expect(prompt).toHaveLength(length);
      const expected = await complete(dense, prompt);
      expect(expected.text).toContain(answer);
      expect((await complete(sparse, prompt)).text, `${length} tokens`).toBe(expected.text);
    }
  });

  it("8: is dense to the letter below four blocks", async () => {
    const tokens = await tokenize(dense, LONG);
    for (const length of [1, BLOCK, 4 * BLOCK - 1]) {
      const prompt = tokens.slice(0, length);
      const fields = { max_tokens: 40, ignore_eos: true, logprobs: 3 };
      const [a, b] = await Promise.all(
        [dense, sparse].map((server) =>
          post(server, "/v1/completions", { prompt, temperature: 0, ...fields }),
        ),
      );
      expect(a.choices).toEqual(b.choices);
    }
  });

  it("9: is dense to the letter at a ratio of 1", async () => {
    const whole = await start(...dram(esa(1)));
    try {
      const body = { prompt: LONG, temperature: 0, max_tokens: 40, ignore_eos: true, logprobs: 3 };
      const [a, b] = await Promise.all(
        [dense, whole].map((server) => post(server, "/v1/completions", body)),
      );
      expect(a.choices).toEqual(b.choices);
    } finally {
      await whole.stop();
    }
  });

  it("10: finds a fact at every depth and length that dense attention finds", async () => {
    let asked = 0;
    for (const sentences of [100, 160]) {
      for (const depth of [0.05, 0.5, 0.95]) {
        const { text, question, answer } = needleText(sentences, depth, 70 + asked);
        asked += 1;
        const { text: expected } = await complete(dense, text + question);
        expect(expected, `dense, ${sentences} sentences, depth ${depth}`).toContain(answer);
        const { text: found } = await complete(sparse, text + question);
        expect(found, `sparse, ${sentences} sentences, depth ${depth}`).toContain(answer);
      }
    }
    const metrics = await (await fetch(`${sparse.url}/metrics`)).text();
    expect(metrics).toMatch(/^vllm:request_success_total\{.*finished_reason="stop".*\} [1-9]/m);
  });
});
