import { once } from "node:events";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { execaNode } from "execa";
import { toUcmError, UcmError } from "../errors/index.js";
import { writeChildLine } from "../log/index.js";
import {
  encodeFrame,
  FrameReader,
  type FromWorker,
  isFromWorker,
  MESSAGE_DESCRIPTOR,
  PARENT_PID_VARIABLE,
  type ToWorker,
} from "../messages/index.js";
import type { WorkerSpec } from "./plan.js";

/** Lines of standard error kept to explain a death. */
const LAST_WORDS = 5;

/** Frames of stack traces, rules and blank lines, which fill a log and explain nothing. */
const noWords = /^\s*(at .*|#?\d+:? +0x[\da-f]+.*|[-=<]{3,}.*)?$/;

/** How long each stage of a stop may take before the next, harder one. */
export interface StopPatience {
  /** From the shutdown message to SIGTERM. */
  messageMs: number;
  /** From SIGTERM to SIGKILL. */
  signalMs: number;
}

const defaultPatience: StopPatience = { messageMs: 5_000, signalMs: 2_000 };

export interface WorkerHandlers {
  onMessage(message: FromWorker): void;
  /** It wrote what is no message; nothing more of it is read. */
  onGarbage(error: UcmError): void;
  /** Null when it was told to end. */
  onEnd(error: UcmError | null): void;
}

type Subprocess = ReturnType<typeof spawn>;

function spawn(entry: string, env: Record<string, string>, sharedDescriptor: number) {
  return execaNode(entry, [], {
    env: { ...env, [PARENT_PID_VARIABLE]: String(process.pid) },
    extendEnv: false,
    // At SHARED_DESCRIPTOR. Any descriptor is taken; execa's types know those up to 9.
    // The last, at MESSAGE_DESCRIPTOR, is a socket.
    stdio: ["ignore", "pipe", "pipe", sharedDescriptor as 9, "pipe"],
    ipc: false,
    buffer: false,
    reject: false,
    cleanup: true,
    forceKillAfterDelay: defaultPatience.signalMs,
  });
}

/**
 * A worker's operating-system process: its output goes to our log under its label, its messages to
 * `onMessage`, its end to `onEnd`. It ends when this process does, by the kernel or as its socket closes.
 */
export class WorkerProcess {
  readonly spec: WorkerSpec;
  readonly #child: Subprocess;
  readonly #socket: Socket;
  readonly #handlers: WorkerHandlers;
  readonly #lastWords: string[] = [];
  readonly #ended: Promise<void>;
  #isStopping = false;
  #hasEnded = false;

  constructor(spec: WorkerSpec, entry: string, sharedDescriptor: number, handlers: WorkerHandlers) {
    this.spec = spec;
    this.#handlers = handlers;
    this.#child = spawn(entry, spec.env, sharedDescriptor);
    this.#socket = this.#child.stdio[MESSAGE_DESCRIPTOR] as unknown as Socket;
    this.#receive();
    const drained = [
      this.#passOn(this.#child.stdout, () => {}),
      this.#passOn(this.#child.stderr, (line) => {
        if (noWords.test(line)) return;
        this.#lastWords.push(stripVTControlCharacters(line));
        if (this.#lastWords.length > LAST_WORDS) this.#lastWords.shift();
      }),
    ];
    this.#ended = this.#awaitEnd(drained, handlers.onEnd);
  }

  /** For messages. */
  get name(): string {
    return `${this.spec.label} (pid ${this.pid})`;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Sends a message; a closed socket shows as the process's end, not here. */
  send(message: ToWorker): void {
    if (this.#socket.writable) this.#socket.write(encodeFrame(message));
  }

  /** Asks, then SIGTERM, then SIGKILL. Resolves when the process is gone. */
  async stop(patience: StopPatience = defaultPatience): Promise<void> {
    this.#isStopping = true;
    if (this.#hasEnded) return;
    this.send({ type: "shutdown" });
    const terminate = setTimeout(() => this.#child.kill("SIGTERM"), patience.messageMs);
    const kill = setTimeout(
      () => this.#child.kill("SIGKILL"),
      patience.messageMs + patience.signalMs,
    );
    await this.#ended;
    clearTimeout(terminate);
    clearTimeout(kill);
  }

  /** SIGKILL, at once. */
  kill(): void {
    this.#isStopping = true;
    this.#child.kill("SIGKILL");
  }

  #receive(): void {
    const reader = new FrameReader();
    this.#socket.on("data", (chunk) => {
      try {
        for (const message of reader.push(chunk)) {
          if (!isFromWorker(message))
            throw new UcmError("UCM_ERR_WORKER", "sent no known message.");
          this.#handlers.onMessage(message);
        }
      } catch (error) {
        this.#socket.destroy();
        const { message } = toUcmError(error);
        this.#handlers.onGarbage(new UcmError("UCM_ERR_WORKER", `${this.name} ${message}`));
      }
    });
    // A socket that breaks shows as the process's end.
    this.#socket.on("error", () => {});
  }

  async #passOn(stream: Readable, seeLine: (line: string) => void): Promise<void> {
    const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
    lines.on("line", (line) => {
      seeLine(line);
      writeChildLine(this.spec.label, this.pid, line);
    });
    await once(lines, "close");
  }

  async #awaitEnd(
    drained: Promise<void>[],
    onEnd: (error: UcmError | null) => void,
  ): Promise<void> {
    const result = await this.#child;
    await Promise.all(drained);
    this.#hasEnded = true;
    onEnd(this.#isStopping ? null : this.#deathOf(result));
  }

  #deathOf(result: { exitCode?: number; signal?: string; cause?: unknown }): UcmError {
    const how =
      result.signal !== undefined
        ? `was killed by ${result.signal}`
        : result.exitCode !== undefined
          ? `exited with code ${result.exitCode}`
          : `could not be started: ${String(result.cause)}`;
    const hint =
      result.signal === "SIGKILL"
        ? " The system may have run out of memory: try a smaller --kv-cache-memory-bytes or --max-model-len, or --quantization int8."
        : "";
    const words = this.#lastWords.map((line) => `\n${line}`).join("");
    return new UcmError("UCM_ERR_WORKER", `${this.name} ${how}.${hint}${words}`);
  }
}
