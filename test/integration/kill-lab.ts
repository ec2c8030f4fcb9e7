import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { expect } from "vitest";
import { ServeProcess } from "../e2e/serving.js";
import { parseExposition } from "../helpers/exposition.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { childrenOf, isRunning, until } from "../helpers/ucm-command.js";

/** A worker without a sign of life for so long counts as hung. */
export const WORKER_TIMEOUT_S = 5;
/** What runs so long after the server was told to end is aborted. */
const SHUTDOWN_TIMEOUT_S = 5;
/** Less what a timer may be early. */
const ABORT_MS = SHUTDOWN_TIMEOUT_S * 1000 - 10;
const NUM_CLIENTS = 3;
const MAX_TOKENS = 48;
/** Of some blocks each, so that a restart has something to find in the store. */
const PROMPTS = ["Once upon a time", "The meaning of", "It was a dark"].map((start) =>
  `${start} house by the sea, and nobody who lived there knew why. `.repeat(3),
);

/** How a request ended, as its client saw it. */
export interface Outcome {
  /**
   * Refused with a status, ended by its length, cut off with finish reason "abort", ended by an error
   * event, or by a broken connection.
   */
  kind: "refused" | "finished" | "aborted" | "failed" | "broken";
  prompt: string;
  text: string;
  /** Terminal events and [DONE] lines: one each of a stream that was not broken. */
  numEnds: number;
  numDone: number;
  wantedTokens: number;
  completionTokens: number | null;
  cachedTokens: number;
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
    cachedTokens: 0,
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
    outcome.cachedTokens += event.usage?.prompt_tokens_details?.cached_tokens ?? 0;
    const choice = event.choices[0];
    outcome.text += choice?.text ?? "";
    if (choice?.finish_reason) {
      outcome.kind = choice.finish_reason === "abort" ? "aborted" : "finished";
      outcome.numEnds += 1;
    }
  }
}

/** What became of a server under load: nothing, killed, or told to end at a time. */
export type ServerEnding = { kind: "none" | "killed" } | { kind: "told"; atMs: number };

/** From when on a request must have begun to lose its connection: a server that is told finishes others. */
function mayBreakMs(ending: ServerEnding): number {
  if (ending.kind === "told") return ending.atMs;
  return ending.kind === "killed" ? 0 : Number.POSITIVE_INFINITY;
}

/** When a request may be aborted: after the time that a server gives which is told to end. No other aborts. */
function mayAbortMs(ending: ServerEnding): number {
  return ending.kind === "told" ? ending.atMs + ABORT_MS : Number.POSITIVE_INFINITY;
}

/** Names in the folder of shared memory: there must never be one of ours. */
export const sharedMemoryNames = () => readdirSync("/dev/shm").sort();

/** A server on two ranks under steady load, with a temporary folder of its own. */
export class KillLab {
  readonly server: ServeProcess;
  readonly #tempFolder: string;
  readonly #expected: ReadonlyMap<string, string>;
  #outcomes: Outcome[] = [];
  #clients: Promise<void>[] = [];
  #isLoaded = false;

  private constructor(
    server: ServeProcess,
    tempFolder: string,
    expected: ReadonlyMap<string, string>,
  ) {
    this.server = server;
    this.#tempFolder = tempFolder;
    this.#expected = expected;
  }

  /** Starts a server over the store in `storeFolder`; what it should answer is asked once. */
  static async start(
    storeFolder: string,
    expected: ReadonlyMap<string, string> = new Map(),
  ): Promise<KillLab> {
    const lab = await KillLab.begin(storeFolder, expected);
    await lab.server.ready();
    if (expected.size > 0) return lab;
    const answers = new Map<string, string>();
    for (const prompt of PROMPTS) {
      const { kind, text } = await complete(lab.server.url, prompt, MAX_TOKENS);
      expect(kind).toBe("finished");
      answers.set(prompt, text);
    }
    return new KillLab(lab.server, lab.#tempFolder, answers);
  }

  /** Starts a server and does not wait for it. */
  static async begin(storeFolder: string, expected: ReadonlyMap<string, string>): Promise<KillLab> {
    const tempFolder = makeTempFolder();
    const store = {
      kv_connector: "UCMConnector",
      kv_role: "kv_both",
      kv_connector_extra_config: {
        ucm_connector_name: "UcmNfsStore",
        ucm_connector_config: { storage_backends: storeFolder },
      },
    };
    const args = [
      ...["--tensor-parallel-size", "2", "--cpu-cores-per-worker", "1", "--max-model-len", "512"],
      ...[
        "--worker-timeout",
        String(WORKER_TIMEOUT_S),
        "--shutdown-timeout",
        String(SHUTDOWN_TIMEOUT_S),
      ],
      ...["--kv-transfer-config", JSON.stringify(store), "--disable-uvicorn-access-log"],
    ];
    const server = await ServeProcess.begin(args, { TMPDIR: tempFolder });
    return new KillLab(server, tempFolder, expected);
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

  /** Our series that only grow while the server lives, by name and labels. */
  async totals(): Promise<Map<string, number>> {
    const text = await (await fetch(`${this.server.url}/metrics`)).text();
    const grows = /^(vllm|ucm):.*_(total|count|bucket|sum)$/;
    const samples = parseExposition(text).filter(({ name }) => grows.test(name));
    return new Map(
      samples.map(({ name, labels, value }) => [`${name} ${JSON.stringify(labels)}`, value]),
    );
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

  /** Ends the load; what the clients saw since it began, each checked for truth. */
  async unload(ending: ServerEnding = { kind: "none" }): Promise<Outcome[]> {
    this.#isLoaded = false;
    await Promise.all(this.#clients);
    const outcomes = this.#outcomes;
    this.#outcomes = [];
    for (const outcome of outcomes) this.#check(outcome, ending);
    return outcomes;
  }

  #check(outcome: Outcome, ending: ServerEnding): void {
    const { kind, prompt, text, numEnds, numDone, wantedTokens, completionTokens } = outcome;
    if (kind === "broken") expect(outcome.startedMs).toBeGreaterThanOrEqual(mayBreakMs(ending));
    if (kind === "broken" || kind === "refused") return;
    expect({ kind, numEnds, numDone }).toEqual({ kind, numEnds: 1, numDone: 1 });
    expect(this.#expected.get(prompt)!.slice(0, text.length)).toBe(text);
    if (kind === "aborted") expect(outcome.endedMs).toBeGreaterThan(mayAbortMs(ending));
    if (kind === "finished") expect(completionTokens).toBe(wantedTokens);
  }

  /** Waits until all of these processes have ended. */
  async gone(pids: readonly number[], timeoutMs: number): Promise<void> {
    const anyLeft = async () => (await Promise.all(pids.map(isRunning))).includes(true);
    await until("the end of the workers", async () => !(await anyLeft()), timeoutMs);
  }

  /**
   * Waits for all that may outlive the server, which has ended, to be gone: processes that have its
   * environment, its port, and what it wrote to its temporary folder.
   */
  async leftNothing(timeoutMs: number): Promise<void> {
    await until("the end of all processes", () => this.#processes().length === 0, timeoutMs);
    await until("the port to be free", () => canListen(this.server.port), timeoutMs);
    expect(readdirSync(this.#tempFolder)).toEqual([]);
  }

  async destroy(): Promise<void> {
    this.#isLoaded = false;
    await this.server.destroy();
  }

  #processes(): string[] {
    const marker = `TMPDIR=${this.#tempFolder}\0`;
    return readdirSync("/proc").filter((pid) => {
      try {
        return (
          /^\d+$/.test(pid) && readFileSync(join("/proc", pid, "environ"), "utf8").includes(marker)
        );
      } catch {
        // It has ended meanwhile.
        return false;
      }
    });
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** Takes what a worker has left of memory away: the next allocation fails. */
export async function exhaustMemory(pid: number): Promise<void> {
  await execa("prlimit", ["--pid", String(pid), "--as=1000000"]);
}
