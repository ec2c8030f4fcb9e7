/**
 * A worker process for tests of the launcher: it speaks the protocol and does what the model path's
 * last part says, without a model.
 */
import { Socket } from "node:net";
import { deserialize, serialize } from "node:v8";

/** The launcher's own, as its first message tells it. */
let protocolVersion = 0;
const socket = new Socket({ fd: 4, readable: true, writable: true });
let received = Buffer.alloc(0);
let behaviour = "";

function send(message) {
  const body = serialize(message);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x75636d31, 0);
  head.writeUInt32LE(body.length, 4);
  socket.write(Buffer.concat([head, body]));
}

const loads = {
  good: () => ready(),
  oldVersion: () => ready(0),
  failing: () => {
    const error = { code: "UCM_ERR_WEIGHTS", message: "a tensor is missing", param: null };
    send({ type: "failed", error });
  },
  crashing: () => {
    console.error("\x1b[1;31mabout to fall over\x1b[m\n\n----- Native stack trace -----");
    console.error(" 1: 0xb78db3 node::OOMErrorHandler(char const*)\n    at f (file.js:1:2)");
    process.exit(7);
  },
  killed: () => process.kill(process.pid, "SIGKILL"),
  silent: () => {},
  busy: () => {
    setInterval(() => {
      const end = performance.now() + 20;
      while (performance.now() < end);
    }, 40);
  },
  uneven: (rank) => {
    for (let done = 1; done <= 3 - 2 * rank; done++) {
      send({ type: "progress", phase: "Loading weights", done, total: 4 });
    }
    ready(protocolVersion, 3 + 5 * rank);
  },
  slow: () => {
    for (let done = 1; done <= 4; done++) {
      send({ type: "progress", phase: "Loading weights", done, total: 4 });
    }
    ready();
  },
};

const steps = {
  crashing: () => {
    console.error("last words");
    process.exit(9);
  },
  silent: () => {},
  garbage: () => socket.write(Buffer.alloc(64, 0xff)),
  babbling: () => send({ type: "stepResult", stepId: "one" }),
  failing: () => {
    const error = { code: "UCM_ERR_MEMORY", message: "out of memory", param: null };
    send({ type: "failed", error });
  },
};

function ready(version = protocolVersion, loadMs = 3) {
  const env = Object.keys(process.env).sort().join(",");
  send({ type: "ready", version, weightBytes: 1, kvBytes: 2, loadMs, isa: env });
}

function step({ stepId, newSequences }) {
  const prompt = newSequences[0]?.promptTokenIds;
  if (prompt !== undefined && !(prompt instanceof Int32Array)) process.exit(11);
  send({
    type: "stepResult",
    stepId,
    sampled: [{ seqId: 5, tokenId: prompt?.[0] ?? 0, logprobs: null }],
    failed: [],
    promptLogprobs: [],
    durationMs: 1,
  });
}

function receive(message) {
  if (message.type === "load") {
    console.log("loading");
    const [loadName, stepName] = message.config.modelPath.split("/").at(-1).split("-");
    behaviour = stepName;
    protocolVersion = message.version;
    loads[loadName](message.config.rank);
  } else if (message.type === "step") {
    (steps[behaviour] ?? step)(message);
  } else if (message.type === "shutdown" && behaviour !== "deaf") {
    process.exit(0);
  }
}

socket.on("data", (chunk) => {
  received = Buffer.concat([received, chunk]);
  while (received.length >= 8 && received.length >= 8 + received.readUInt32LE(4)) {
    const end = 8 + received.readUInt32LE(4);
    receive(deserialize(received.subarray(8, end)));
    received = received.subarray(end);
  }
});
socket.on("close", () => process.exit(0));
process.on("SIGTERM", () => {});
