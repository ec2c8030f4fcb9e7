import { afterEach, beforeEach, describe, expect, it } from "vitest";
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
    writeChildLine("Worker_TP0", 7, "loaded");
    expect(text).toBe("(Worker_TP0 pid=7) loaded\n");
    text = "";
    configureLog({ stream: sink(true) });
    writeChildLine("Worker_TP0", 7, "loaded");
    expect(text).toBe("\u001b[36m(Worker_TP0 pid=7) \u001b[39mloaded\n");
  });

  it("knows level names in any case", () => {
    expect(parseLogLevel("warn")).toBe("WARNING");
    expect(parseLogLevel("debug")).toBe("DEBUG");
    expect(parseLogLevel("chatty")).toBeNull();
  });
});
