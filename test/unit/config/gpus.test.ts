import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { surveyGpus } from "../../../src/config/gpus.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

/** A survey with this shell script in the place of the driver's tool. */
function surveyWith(script: string) {
  const folder = makeTempFolder();
  writeFileSync(join(folder, "nvidia-smi"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return surveyGpus({ PATH: folder });
}

describe("a survey of GPUs", () => {
  it("lists what nvidia-smi tells", () => {
    const line = "echo '0, NVIDIA H100 80GB HBM3, 81559 MiB'";
    expect(surveyWith(line)).toEqual({
      gpus: ["GPU 0 NVIDIA H100 80GB HBM3 (81559 MiB)"],
      source: "nvidia-smi",
    });
    expect(surveyWith("exit 0")).toEqual({ gpus: [], source: "nvidia-smi" });
  });

  it("asks for index, name and memory", () => {
    expect(surveyWith('echo "0, $1, $2"').gpus).toEqual(["GPU 0 --query-gpu=index (name)"]);
  });

  it("says why it could not ask", () => {
    const failing = surveyWith('echo; echo "couldn\'t communicate with the driver" >&2; exit 9');
    expect(failing.source).toContain("nvidia-smi says: couldn't communicate with the driver");
    expect(surveyGpus({ PATH: makeTempFolder() }).source).toContain("nvidia-smi is not on PATH");
    expect(surveyWith("exec /bin/sleep 30").source).toContain("did not answer within 5 s");
  });
});
