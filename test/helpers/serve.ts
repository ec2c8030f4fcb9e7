import { startUcm, until } from "./ucm-command.js";

/** A server of the built command, ready for requests. */
export interface RunningServer {
  url: string;
  /** All that it printed on stdout so far. */
  output(): string;
  stop(): Promise<void>;
}

/** `ucm serve` with these arguments on a free port of this machine, or where `url` says. */
export async function startServer(
  args: string[],
  { env = {}, url }: { env?: Record<string, string>; url?: string } = {},
): Promise<RunningServer> {
  const child = startUcm(["serve", ...args, ...(url === undefined ? ["--port", "0"] : [])], env);
  let text = "";
  child.stdout?.on("data", (chunk) => {
    text += chunk;
  });
  await until("start-up", () => text.includes("Application startup complete."));
  const port = /Starting ucm server on https?:\/\/0\.0\.0\.0:(\d+)/.exec(text)?.[1];
  return {
    url: url ?? `http://127.0.0.1:${port}`,
    output: () => text,
    async stop() {
      child.kill("SIGTERM");
      await child;
    },
  };
}
