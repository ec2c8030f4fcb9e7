import { execa } from "execa";
import { describe, expect, it } from "vitest";

const native = new URL("../../native", import.meta.url).pathname;
const MINUTES = 60_000;

describe("the C++ tests", () => {
  it.each(["test", "test-asan", "test-tsan"])(
    "make %s",
    async (target) => {
      const result = await execa("make", ["-j2", target], {
        cwd: native,
        all: true,
        reject: false,
      });
      expect(result.exitCode, result.all).toBe(0);
    },
    15 * MINUTES,
  );
});
