import { describe, expect, it } from "vitest";
import { toUcmError, UcmError } from "../../../src/errors/index.js";

describe("toUcmError", () => {
  it("keeps a UcmError, over a process boundary too", () => {
    const error = new UcmError("UCM_ERR_WEIGHTS", "a tensor is missing", { param: "model" });
    expect(toUcmError(error)).toBe(error);
    expect(UcmError.fromJSON(error.toJSON())).toMatchObject(error.toJSON());
  });

  it("takes the code that the native addon gives an error", () => {
    const error = Object.assign(new Error("no room"), { code: "UCM_ERR_MEMORY" });
    expect(toUcmError(error)).toMatchObject({ code: "UCM_ERR_MEMORY", message: "no room" });
  });

  it("calls everything else an internal error, system errors included", () => {
    const error = Object.assign(new Error("no such file"), { code: "ENOENT" });
    expect(toUcmError(error)).toMatchObject({ code: "UCM_ERR_INTERNAL", cause: error });
    expect(toUcmError("text")).toMatchObject({ code: "UCM_ERR_INTERNAL", message: "text" });
  });
});
