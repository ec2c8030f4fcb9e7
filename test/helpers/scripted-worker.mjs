/**
 * A worker process for tests of the launcher: it speaks the protocol and does what the model path's
 * last part says, without a model.
 */
const PROTOCOL_VERSION = 3;
let behaviour = "";

const loads = {
  good: () => ready(),
  oldVersion: () => ready(0),
  failing: () => {
    const error = { code: "UCM_ERR_WEIGHTS", message: "a tensor is missing", param: null };
    process.send({ type: "failed", error });
  },
  crashing: () => {
    console.error("about to fall over");
    process.exit(7);
  },
  killed: () => process.kill(process.pid, "SIGKILL"),
  silent: () => {},
  slow: () => {
    for (let done = 1; done <= 4; done++) {
      process.send({ type: "progress", phase: "Loading weights", done, total: 4 });
    }
    ready();
  },
};

const steps = {
  crashing: () => process.exit(9),
  silent: () => {},
};

function ready(version = PROTOCOL_VERSION) {
  const env = Object.keys(process.env).sort().join(",");
  process.send({ type: "ready", version, weightBytes: 1, kvBytes: 2, loadMs: 3, isa: env });
}

function step({ stepId, newSequences }) {
  const prompt = newSequences[0]?.promptTokenIds;
  if (prompt !== undefined && !(prompt instanceof Int32Array)) process.exit(11);
  process.send({
    type: "stepResult",
    stepId,
    sampled: [{ seqId: 5, tokenId: prompt?.[0] ?? 0, logprobs: null }],
    failed: [],
    promptLogprobs: [],
    durationMs: 1,
  });
}

process.on("message", (message) => {
  if (message.type === "load") {
    console.log("loading");
    const [loadName, stepName] = message.config.modelPath.split("/").at(-1).split("-");
    behaviour = stepName;
    loads[loadName]();
  } else if (message.type === "step") {
    (steps[behaviour] ?? step)(message);
  } else if (message.type === "shutdown" && behaviour !== "deaf") {
    process.exit(0);
  }
});
process.on("disconnect", () => process.exit(0));
process.on("SIGTERM", () => {});
