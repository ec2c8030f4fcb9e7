import type { AddressInfo } from "node:net";
import type { FastifyInstance } from "fastify";
import OpenAI from "openai";
import type { EngineConfig } from "../../../src/config/engine-config.js";
import { Engine } from "../../../src/engine/index.js";
import { type AppOptions, createApp } from "../../../src/server/index.js";
import type { Tokenizer } from "../../../src/tokenizer/index.js";
import { loadByteTokenizer, specialIds, vocabSize } from "./byte-tokenizer.js";
import { ScriptedExecutor } from "./scripted-executor.js";

/** Where the tests say the model lies; also its served name. */
export const MODEL = "/models/scripted";

const config: EngineConfig = {
  model: {
    path: MODEL,
    tag: MODEL,
    servedNames: [MODEL, "alias"],
    tokenizerPath: MODEL,
    loadFormat: "auto",
    dtype: "float32",
    quantization: null,
    hfOverrides: {},
    vocabSize,
    maxModelLen: 512,
    eosTokenIds: [specialIds.imEnd],
    defaultSampling: {},
    maxLogprobs: 20,
    seed: 0,
  },
  cache: {
    blockSize: 16,
    kvDtype: "float32",
    numBlocks: 1024,
    kvBytes: 0,
    enablePrefixCaching: true,
    blockHashSeed: null,
  },
  store: null,
  sparse: null,
  profilePath: null,
  scheduler: {
    maxNumSeqs: 64,
    maxNumBatchedTokens: 2048,
    enableChunkedPrefill: true,
    longPrefillTokenThreshold: 0,
    policy: "fcfs",
    maxNumQueuedRequests: 1000,
  },
  parallel: { tensorParallelSize: 1, threads: 1, cores: [], workerTimeoutMs: 60_000 },
};

/** Threads run the build: Node does not read TypeScript. */
export const builtGrammarThread = new URL("../../../dist/grammar/thread.js", import.meta.url);

export interface HarnessSettings {
  options?: Partial<AppOptions>;
  model?: Partial<EngineConfig["model"]>;
  scheduler?: Partial<EngineConfig["scheduler"]>;
  cache?: Partial<EngineConfig["cache"]>;
  /** False serves token ids only. */
  withTokenizer?: boolean;
}

/** A server on a loopback port: real engine, real sockets, a scripted model. */
export class Harness {
  readonly app: FastifyInstance;
  readonly engine: Engine;
  readonly executor: ScriptedExecutor;
  readonly tokenizer: Tokenizer;
  /** Lines of the access log. */
  readonly accessLines: string[] = [];
  /** Errors that clients were not to see. */
  readonly faults: Error[] = [];

  private constructor(settings: HarnessSettings, tokenizer: Tokenizer) {
    const { withTokenizer = true } = settings;
    this.tokenizer = tokenizer;
    this.executor = new ScriptedExecutor();
    const served: EngineConfig = {
      ...config,
      model: { ...config.model, ...settings.model },
      scheduler: { ...config.scheduler, ...settings.scheduler },
      cache: { ...config.cache, ...settings.cache },
    };
    const usedTokenizer = withTokenizer ? tokenizer : null;
    this.engine = new Engine({
      config: served,
      executor: this.executor,
      tokenizer: usedTokenizer,
      grammarEntry: builtGrammarThread,
    });
    this.app = createApp({
      engine: this.engine,
      tokenizer: usedTokenizer,
      config: served,
      options: {
        version: "1.2.3",
        writeAccessLine: (line) => this.accessLines.push(line),
        reportError: (error) => this.faults.push(error),
        ...settings.options,
      },
    });
  }

  static async start(settings: HarnessSettings = {}): Promise<Harness> {
    const harness = new Harness(settings, await loadByteTokenizer());
    await harness.app.listen({ port: 0, host: "127.0.0.1" });
    return harness;
  }

  /** A server whose model answers with `text` and ends, as far as a grammar lets it. */
  static async saying(text: string, options: Partial<AppOptions> = {}): Promise<Harness> {
    const harness = await Harness.start({ options });
    const bytes = Buffer.from(text);
    harness.executor.script = (k) => bytes[k] ?? specialIds.imEnd;
    return harness;
  }

  get port(): number {
    return (this.app.server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The official client, without its retries. */
  client(apiKey = "EMPTY"): OpenAI {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey, maxRetries: 0 });
  }

  /** POSTs JSON; `body` may be a string to send as it is. */
  post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(this.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  }

  /** POSTs and reads a JSON answer. */
  async ask(path: string, body: unknown): Promise<{ status: number; body: JsonObject }> {
    const response = await this.post(path, body);
    return { status: response.status, body: (await response.json()) as JsonObject };
  }

  /** POSTs and reads the data of every event of the answer. */
  async events(path: string, body: object): Promise<string[]> {
    const response = await this.post(path, { ...body, stream: true });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`HTTP ${response.status}: ${text}`);
    const events = text.split("\n\n");
    if (events.pop() !== "") throw new Error("The stream does not end with an empty line");
    return events.map((event) => {
      if (!event.startsWith("data: ")) throw new Error(`Not an event: ${event}`);
      return event.slice("data: ".length);
    });
  }

  async close(): Promise<void> {
    this.app.server.closeAllConnections();
    await this.app.close();
    await this.engine.stop();
  }
}

// biome-ignore lint/suspicious/noExplicitAny: answers are JSON, which tests look into freely
export type JsonObject = any;

/** Resolves when `condition` holds; fails when it does not in time. */
export async function until(condition: () => boolean, timeoutMs = 30_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`Never came true: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
