import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../helpers/serve.js";
import { demoModel } from "../helpers/ucm-command.js";

/** Grammars over the whole server, with the demo model, which knows nothing of JSON. */

let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  // Few blocks, so that some of the sequences are preempted on the way.
  server = await startServer([
    demoModel,
    ...["--max-model-len", "256", "--num-gpu-blocks-override", "24", "--max-num-seqs", "8"],
  ]);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "EMPTY", maxRetries: 0 });
});
afterAll(() => server.stop());

const schema = {
  type: "object",
  properties: {
    id: { type: "integer", minimum: 10, maximum: 99 },
    tags: { type: "array", items: { enum: ["red", "green"] }, minItems: 1, maxItems: 3 },
    note: { type: "string", maxLength: 12 },
  },
  required: ["id", "tags", "note"],
};

function check(text: string): void {
  const { id, tags, note, ...rest } = JSON.parse(text);
  expect(rest).toEqual({});
  expect(Number.isInteger(id) && id >= 10 && id <= 99).toBe(true);
  expect(tags.length >= 1 && tags.length <= 3).toBe(true);
  for (const tag of tags) expect(["red", "green"]).toContain(tag);
  expect([...note].length).toBeLessThanOrEqual(12);
}

describe("a real model", () => {
  it("answers by the schema at any temperature, n at a time, beside free text", async () => {
    const bound = [0, 1, 1.7].map((temperature) =>
      client.completions.create({
        model: demoModel,
        prompt: "The answer:",
        max_tokens: 150,
        temperature,
        n: temperature === 0 ? 1 : 3,
        structured_outputs: { json: schema, disable_any_whitespace: true },
      } as never),
    );
    const free = await client.completions.create({
      model: demoModel,
      prompt: "It was",
      max_tokens: 100,
      temperature: 0,
    });
    for (const { choices } of await Promise.all(bound)) {
      for (const { text, finish_reason } of choices) {
        expect(finish_reason).toBe("stop");
        check(text);
      }
    }
    const again = await client.completions.create({
      model: demoModel,
      prompt: "It was",
      max_tokens: 100,
      temperature: 0,
    });
    expect(again.choices[0]!.text).toBe(free.choices[0]!.text);
  });

  it("has log-probabilities of the allowed tokens alone", async () => {
    const { choices } = await client.completions.create({
      model: demoModel,
      prompt: "Yes or no?",
      logprobs: 3,
      structured_outputs: { choice: ["yes", "no"] },
    } as never);
    expect(["yes", "no"]).toContain(choices[0]!.text);
    const [first] = choices[0]!.logprobs!.top_logprobs!;
    const sum = Object.values(first!).reduce((total, logprob) => total + Math.exp(logprob), 0);
    expect(sum).toBeLessThanOrEqual(1.0001);
  });
});
