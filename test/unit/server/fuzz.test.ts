import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requestFields } from "../../../src/openai/index.js";
import { anyText, routes } from "../../helpers/hostile/bodies.js";
import { Dice } from "../../helpers/hostile/dice.js";
import { Harness, type JsonObject, until } from "./harness.js";

let server: Harness;

beforeAll(async () => {
  server = await Harness.start({
    options: { bodyLimitBytes: 1_000_000 },
    model: { maxModelLen: 64 },
  });
});
afterAll(() => server.close());

const expected = new Set([200, 400, 404]);

const answered = { 200: 0, other: 0 };

/** Sends one body; says what is wrong with the answer, null when nothing is. */
async function complaint(path: string, text: string): Promise<string | null> {
  const response = await server.post(path, text);
  const answer = await response.text();
  answered[response.status === 200 ? 200 : "other"]++;
  if (!expected.has(response.status)) return `HTTP ${response.status}: ${answer}`;
  if (response.status === 200) return null;
  const { error } = JSON.parse(answer) as JsonObject;
  const isShaped = typeof error.message === "string" && error.code === response.status;
  return isShaped && answer.length < 20_000 ? null : `misshapen: ${answer}`;
}

async function collectComplaints(total: number, seed: number): Promise<string[]> {
  const dice = new Dice(seed);
  const complaints: string[] = [];
  let left = total;
  const worker = async () => {
    while (left-- > 0) {
      const path = dice.pick(routes);
      const text = anyText(dice, path);
      const found = await complaint(path, text);
      if (found !== null) complaints.push(`${path} ${text.slice(0, 500)} -> ${found}`);
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  return complaints;
}

describe("thousands of generated bodies", () => {
  it("are answered or refused, never with a fault of the server", async () => {
    const complaints = await collectComplaints(2500, 20_240_607);
    expect(complaints).toEqual([]);
    // Both ways through the server were taken often.
    expect(answered[200]).toBeGreaterThan(300);
    expect(answered.other).toBeGreaterThan(1000);
    expect(server.faults).toEqual([]);
    await until(() => server.engine.stats().running + server.engine.stats().waiting === 0);
    expect(server.engine.stats().usedBlocks).toBe(0);
    const { status } = await server.ask("/v1/completions", { prompt: "x" });
    expect(status).toBe(200);
  });

  it("deep nesting is refused, not a crash", async () => {
    for (const [open, close] of [
      ["[", "]"],
      ['{"a":', "}"],
    ] as const) {
      const nested = `${open.repeat(100_000)}1${close.repeat(100_000)}`;
      for (const field of requestFields["/v1/completions"]!) {
        const { status } = await server.ask("/v1/completions", `{"${field}":${nested}}`);
        expect([field, status]).toEqual([field, 400]);
      }
      const messages = `[{"role":"user","content":"x","extra":${nested}}]`;
      for (const path of ["/v1/chat/completions", "/tokenize"]) {
        const response = await server.post(path, `{"messages":${messages},"max_tokens":1}`);
        expect(response.status).toBeLessThan(500);
        await response.text();
      }
    }
    expect(server.faults).toEqual([]);
  });
});
