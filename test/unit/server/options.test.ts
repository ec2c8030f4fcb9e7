import { expect, it } from "vitest";
import { UcmError } from "../../../src/errors/index.js";
import { defaultServerOptions } from "../../../src/server/options.js";
import { captureLog } from "../../helpers/captured-log.js";

const logged = captureLog();

it("reports a fault by its message when that explains it, else with the stack", () => {
  const { reportError } = defaultServerOptions;
  reportError(new UcmError("UCM_ERR_WORKER", "the worker was killed"), "cmpl-1");
  expect(logged()).toMatch(/ERROR .*Request cmpl-1 failed: the worker was killed\n$/);
  reportError(new TypeError("x is undefined"), "cmpl-2");
  expect(logged()).toMatch(/Request cmpl-2 failed: TypeError: x is undefined\n.* {4}at /);
});
