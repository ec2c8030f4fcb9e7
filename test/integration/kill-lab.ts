import { readdirSync } from "node:fs";
import { execa } from "execa";
import { expect } from "vitest";
import { ServeProcess } from "../e2e/serving.js";
import { childrenOf, isRunning, until } from "../helpers/ucm-command.js";

/** A worker without a sign of life for so long counts as hung. */
export const WORKER_TIMEOUT_S = 3;
const NUM_CLIENTS = 3;
const MAX_TOKENS = 48;
const PROMPTS = ["Once upon a time", "The meaning of", "It was a dark"];

/** How a request ended, as its client saw it. */
export interface Outcome {
  /** Refused with a status, ended by a finish reason, by an error event, or by a broken connection. */
  kind: "refused" | "finished" | "failed" | "broken";
  prompt: string;
  text: string;
  /** Terminal events and [DONE] lines: one each of a stream that was not broken. */
  numEnds: number;
  numDone: number;
  wantedTokens: number;
  completionTokens: number | null;
  startedMs: number;
  endedMs: number;
}

async function complete(url: string, prompt: string, wantedTokens: number): Promise<Outcome> {
  const outcome: Outcome = {
    kind: "broken",
    prompt,
    text: "",
    numEnds: 0,
    numDone: 0,
    wantedTokens,
    completionTokens: null,
    startedMs: performance.now(),
    endedMs: 0,
  };
  try {
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        prompt,
        max_tokens: wantedTokens,
        temperature: 0,
        ignore_eos: true,
        stream: true,
        stream_options: { include_usage: true },
      }),
    });
    const body = await response.text();
    if (response.status !== 200) {
      expect(`${response.status} ${body}`).toMatch(/^503 .*"code":503/);
      outcome.kind = "refused";
    } else readEvents(body, outcome);
  } catch (error) {
    if ((error as Error).name === "AssertionError") throw error;
    outcome.kind = "broken";
  }
  outcome.endedMs = performance.now();
  return outcome;
}

function readEvents(body: string, outcome: Outcome): void {
  for (const line of body.split("\n\n").filter((text) => text !== "")) {
    const data = line.slice("data: ".length);
    if (data === "[DONE]") {
      outcome.numDone += 1;
      continue;
    }
    const event = JSON.parse(data);
    if (event.error !== undefined) {
      outcome.kind = "failed";
      outcome.numEnds += 1;
      continue;
    }
    outcome.completionTokens = event.usage?.completion_tokens ?? outcome.completionTokens;
    const choice = event.choices[0];
    outcome.text += choice?.text ?? "";
    if (choice?.finish_reason) {
      outcome.kind = "finished";
      outcome.numEnds += 1;
    }
  }
}

/** Names in the folder of shared memory: there must never be one of ours. */
export const sharedMemoryNames = () => readdirSync("/dev/shm").sort();

/** A server on two ranks under steady load. */
export class KillLab {
  readonly server: ServeProcess;
  readonly #expected: ReadonlyMap<string, string>;
  #outcomes: Outcome[] = [];
  #clients: Promise<void>[] = [];
  #isLoaded = false;

  private constructor(server: ServeProcess, expected: ReadonlyMap<string, string>) {
    this.server = server;
    this.#expected = expected;
  }

  static async start(expected: ReadonlyMap<string, string> = new Map()): Promise<KillLab> {
    const server = await ServeProcess.start([
      ...["--tensor-parallel-size", "2", "--cpu-cores-per-worker", "1", "--max-model-len", "512"],
      ...["--worker-timeout", String(WORKER_TIMEOUT_S), "--shutdown-timeout", "5"],
      "--disable-uvicorn-access-log",
    ]);
    if (expected.size > 0) return new KillLab(server, expected);
    const answers = new Map<string, string>();
    for (const prompt of PROMPTS) {
      const { kind, text } = await complete(server.url, prompt, MAX_TOKENS);
      expect(kind).toBe("finished");
      answers.set(prompt, text);
    }
    return new KillLab(server, answers);
  }

  get expected(): ReadonlyMap<string, string> {
    return this.#expected;
  }

  workers(): Promise<number[]> {
    return childrenOf(this.server.process.pid!);
  }

  async health(): Promise<number | null> {
    try {
      return (await fetch(`${this.server.url}/health`)).status;
    } catch {
      return null;
    }
  }

  /** Clients that ask one request after the other, each of a random length. */
  load(random: () => number): void {
    this.#isLoaded = true;
    this.#clients = Array.from({ length: NUM_CLIENTS }, async (_, client) => {
      while (this.#isLoaded) {
        const wanted = 1 + Math.floor(random() * MAX_TOKENS);
        const prompt = PROMPTS[client % PROMPTS.length]!;
        const outcome = await complete(this.server.url, prompt, wanted);
        this.#outcomes.push(outcome);
        // Who is refused does not ask again at once.
        if (outcome.kind === "refused") await new Promise((done) => setTimeout(done, 50));
        if (outcome.kind === "broken") break;
      }
    });
  }

  /**
   * Ends the load; what the clients saw since it began, each checked for truth. Only requests that
   * began from `mayBreakFromMs` on may have lost their connection.
   */
  async unload(mayBreakFromMs = Number.POSITIVE_INFINITY): Promise<Outcome[]> {
    this.#isLoaded = false;
    await Promise.all(this.#clients);
    const outcomes = this.#outcomes;
    this.#outcomes = [];
    for (const outcome of outcomes) this.#check(outcome, mayBreakFromMs);
    return outcomes;
  }

  #check(outcome: Outcome, mayBreakFromMs: number): void {
    const { kind, prompt, text, numEnds, numDone, wantedTokens, completionTokens } = outcome;
    if (kind === "broken") expect(outcome.startedMs).toBeGreaterThanOrEqual(mayBreakFromMs);
    if (kind === "broken" || kind === "refused") return;
    expect({ kind, numEnds, numDone }).toEqual({ kind, numEnds: 1, numDone: 1 });
    expect(this.#expected.get(prompt)!.slice(0, text.length)).toBe(text);
    if (kind === "finished") expect(completionTokens).toBe(wantedTokens);
  }

  /** Waits until all of these processes have ended. */
  async gone(pids: readonly number[], timeoutMs: number): Promise<void> {
    const anyLeft = async () => (await Promise.all(pids.map(isRunning))).includes(true);
    await until("the end of the workers", async () => !(await anyLeft()), timeoutMs);
  }

  async destroy(): Promise<void> {
    this.#isLoaded = false;
    await this.server.destroy();
  }
}

/** Takes what a worker has left of memory away: the next allocation fails. */
export async function exhaustMemory(pid: number): Promise<void> {
  await execa("prlimit", ["--pid", String(pid), "--as=1000000"]);
}
