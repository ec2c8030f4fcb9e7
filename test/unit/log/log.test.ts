import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  configureLog,
  log,
  parseLogLevel,
  writeChildLine,
  writeServerLine,
} from "../../../src/log/index.js";

describe("log", () => {
  let text = "";
  const sink = (isTTY: boolean) => ({
    isTTY,
    write(chunk: string) {
      text += chunk;
      return true;
    },
  });

  beforeEach(() => {
    text = "";
    configureLog({ stream: sink(false), level: "INFO", label: null });
  });
  afterEach(() => configureLog({ stream: process.stdout, level: "INFO", label: null }));

  it("writes vLLM's line with the caller's file and line", () => {
    log.info("hello");
    expect(text).toMatch(/^INFO \d\d-\d\d \d\d:\d\d:\d\d \[log\.test\.ts:\d+\] hello\n$/);
  });

  it("prefixes every physical line with the process label", () => {
    configureLog({ label: "APIServer" });
    log.warning("one\ntwo");
    const lines = text.trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    for (const line of lines) {
      expect(line.startsWith(`(APIServer pid=${process.pid}) WARNING `)).toBe(true);
    }
  });

  it("drops what is below the level", () => {
    log.debug("quiet");
    expect(text).toBe("");
    configureLog({ level: "DEBUG" });
    log.debug("loud");
    expect(text).toContain("loud");
  });

  it("writes uvicorn's lines at the start of the line, without label", () => {
    configureLog({ label: "APIServer" });
    writeServerLine("INFO", "Waiting for application startup.");
    expect(text).toBe("INFO:     Waiting for application startup.\n");
  });

  it("colours the label on a terminal only", () => {
    vi.stubEnv("NO_COLOR", "");
    writeChildLine("Worker_TP0", 7, "loaded");
    expect(text).toBe("(Worker_TP0 pid=7) loaded\n");
    text = "";
    configureLog({ stream: sink(true) });
    writeChildLine("Worker_TP0", 7, "loaded");
    expect(text).toBe("\u001b[36m(Worker_TP0 pid=7) \u001b[39mloaded\n");
  });

  it("writes JSON instead when asked to", () => {
    configureLog({ format: "json", label: "APIServer" });
    log.warning("one\ntwo");
    writeServerLine("INFO", "up");
    writeChildLine("Worker_TP0", 7, "loaded");
    configureLog({ format: "text" });
    const lines = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toEqual([
      {
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
        level: "WARNING",
        label: "APIServer",
        pid: process.pid,
        source: expect.stringMatching(/^log\.test\.ts:\d+$/),
        message: "one\ntwo",
      },
      expect.objectContaining({ level: "INFO", source: "uvicorn", message: "up" }),
      expect.objectContaining({ label: "Worker_TP0", pid: 7, message: "loaded" }),
    ]);
  });

  it("follows vLLM's variables for prefix and colour", () => {
    vi.stubEnv("VLLM_LOGGING_PREFIX", "[node1] ");
    log.info("hello");
    expect(text).toMatch(/^\[node1\] INFO /);
    vi.stubEnv("VLLM_LOGGING_COLOR", "1");
    vi.stubEnv("NO_COLOR", "");
    text = "";
    writeChildLine("W", 1, "a");
    expect(text).toContain("\u001b[36m");
    vi.unstubAllEnvs();
  });

  it("knows level names in any case", () => {
    expect(parseLogLevel("warn")).toBe("WARNING");
    expect(parseLogLevel("debug")).toBe("DEBUG");
    expect(parseLogLevel("chatty")).toBeNull();
  });
});
