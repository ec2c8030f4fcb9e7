import net from "node:net";
import path from "node:path";
import { execa } from "execa";
import OpenAI from "openai";

const root = path.resolve(import.meta.dirname, "../..");

/** The bundled demo checkpoint, as one types it in the repository's root. */
export const DEMO_MODEL = "models/ucm-demo";

const READY_LINE = "INFO:     Application startup complete.";
/** For a machine that is busy with other things. */
const START_TIMEOUT_MS = 300_000;

function spawnServe(args: readonly string[], env: Record<string, string>) {
  return execa(process.execPath, ["bin/ucm.js", "serve", ...args], {
    cwd: root,
    env,
    reject: false,
    all: true,
    // A drain on a busy machine takes longer than execa is patient after SIGTERM.
    forceKillAfterDelay: false,
  });
}

/** A `ucm serve` process on a free loopback port. */
export class ServeProcess {
  readonly port: number;
  readonly process: ReturnType<typeof spawnServe>;
  /** Standard output so far, line by line. */
  readonly lines: string[] = [];

  private constructor(port: number, args: readonly string[], env: Record<string, string>) {
    this.port = port;
    this.process = spawnServe([...args, "--host", "127.0.0.1", "--port", String(port)], env);
  }

  /** Starts and waits for the line that wrappers wait for. */
  static async start(
    args: readonly string[] = [],
    env: Record<string, string> = {},
  ): Promise<ServeProcess> {
    const started = await ServeProcess.begin(args, env);
    await started.ready();
    return started;
  }

  /** Starts and does not wait. */
  static async begin(
    args: readonly string[] = [],
    env: Record<string, string> = {},
  ): Promise<ServeProcess> {
    return new ServeProcess(await findFreePort(), [DEMO_MODEL, ...args], env);
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  client(apiKey = "EMPTY"): OpenAI {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey, maxRetries: 0 });
  }

  /** Sends SIGTERM and returns the exit code. */
  async terminate(): Promise<number | undefined> {
    this.process.kill("SIGTERM");
    return (await this.process).exitCode;
  }

  /** Ends it however it is. */
  async destroy(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process;
  }

  /** Waits for the line that wrappers wait for; rejects when the process ends before. Call once. */
  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.process.kill("SIGKILL");
        reject(new Error(`Not ready in time:\n${this.lines.join("\n")}`));
      }, START_TIMEOUT_MS);
      void this.#readLines(() => {
        clearTimeout(timer);
        resolve();
      });
      void this.process.then(({ exitCode, all }) => {
        clearTimeout(timer);
        reject(new Error(`ucm serve ended with exit code ${exitCode}:\n${all}`));
      });
    });
  }

  async #readLines(onReady: () => void): Promise<void> {
    for await (const line of this.process.iterable({ from: "stdout" })) {
      this.lines.push(line);
      if (line === READY_LINE) onReady();
    }
  }
}

/** A port that was free a moment ago. */
async function findFreePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
