import { execa } from "execa";
import { describe, expect, it } from "vitest";

const native = new URL("../../native", import.meta.url).pathname;
const MINUTES = 60_000;

describe("the C++ tests", () => {
  const run = async (target: string) => {
    const result = await execa("make", ["-j2", target], { cwd: native, all: true, reject: false });
    expect(result.exitCode, result.all).toBe(0);
  };

  it("make test", () => run("test"), 10 * MINUTES);

  for (const target of ["test-asan", "test-tsan"]) {
    it(
      `make ${target}`,
      async ({ skip }) => {
        if (!process.env.UCM_SANITIZERS) {
          skip("two more builds take minutes; set UCM_SANITIZERS=1, or run make in native");
        }
        await run(target);
      },
      30 * MINUTES,
    );
  }
});
