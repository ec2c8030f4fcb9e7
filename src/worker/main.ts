import { Socket } from "node:net";
import { toUcmError, UcmError } from "../errors/index.js";
import {
  encodeFrame,
  FrameReader,
  type FromWorker,
  type LoadMessage,
  MESSAGE_DESCRIPTOR,
  PARENT_PID_VARIABLE,
  PROTOCOL_VERSION,
  SHARED_DESCRIPTOR,
  type StepMessage,
  type StepResultMessage,
  type TokenMask,
  type ToWorker,
} from "../messages/index.js";
import { type Communicator, loadNative } from "../native/index.js";
import { noTracer, SpanRecorder, type Tracer } from "../profile/index.js";
import { loadModel } from "./load-model.js";
import { createModelRunner, type ModelRunner } from "./model-runner.js";
import { createSparseRunner } from "./open-sparse.js";
import { type OpenedStore, openStore } from "./open-store.js";
import { createSampler } from "./sampler.js";
import type { SparseRunner } from "./sparse-runner.js";
import { startReports } from "./store-report.js";
import { type BeforeLayer, StoreRunner } from "./store-runner.js";
import {
  traceBeforeLayer,
  traceCommunicator,
  traceModel,
  tracePartners,
  traceSampler,
} from "./traced.js";

/**
 * Entry of a worker process. It speaks src/messages over an inherited socket: `load` first, answered by
 * progress and `ready` or `failed`; then steps, one at a time; it ends on `shutdown` or when the
 * parent is gone. `run()` of ONNX Runtime blocks this thread, so nothing else may live here.
 */
const socket = new Socket({ fd: MESSAGE_DESCRIPTOR, readable: true, writable: true });
const reader = new FrameReader();
let comm: Communicator | null = null;
let runner: ModelRunner | null = null;
let store: StoreRunner | null = null;
let stopReports: () => void = () => undefined;
let sparse: SparseRunner | null = null;
/** Of a profile; null for none. */
let recorder: SpanRecorder | null = null;
let tracer: Tracer = noTracer;
/** A step is in flight; it may be when the worker is told to end, and then nobody reads its result. */
let isStepping = false;
let isEnding = false;

/** Called with the masks of the step under way, when it awaits some. */
let takeMasks: (masks: TokenMask[]) => void = () => undefined;

/** Between two signs of life while no step is computed. */
const IDLE_SIGN_MS = 200;

function send(message: FromWorker): void {
  socket.write(encodeFrame(message));
}

async function load({ version, config }: LoadMessage): Promise<void> {
  if (version !== PROTOCOL_VERSION) {
    throw new UcmError(
      "UCM_ERR_INTERNAL",
      `The worker speaks protocol ${PROTOCOL_VERSION}, the launcher ${version}. Build again: npm run build.`,
    );
  }
  const started = performance.now();
  const native = loadNative();
  // Before any thread is started that computes, as threads inherit the cores.
  if (config.cores.length > 0) native.pinToCores(Int32Array.from(config.cores));
  comm = native.createCommunicator({
    descriptor: SHARED_DESCRIPTOR,
    rank: config.rank,
    worldSize: config.worldSize,
    timeoutMs: config.rankTimeoutMs,
    spinMicros: config.rankSpinMicros,
  });
  setInterval(() => comm?.noteIdle(), IDLE_SIGN_MS).unref();
  native.keepFreedMemory(false);
  process.chdir(config.modelPath);
  if (config.profile) tracer = recorder = new SpanRecorder();
  const exchange = recorder === null ? comm : traceCommunicator(comm, recorder);
  const model = await loadModel(config, native, exchange, (done, total) => {
    send({ type: "progress", phase: "Loading weights", done, total });
  });
  native.keepFreedMemory(true);
  const sampler = createSampler(native, { vocabSize: model.config.vocabSize, seed: config.seed });
  let opened: OpenedStore | null = null;
  if (config.store !== null) {
    opened = await openStore(config.store, config, model, native);
    store = new StoreRunner(opened);
    sparse = createSparseRunner(config, model, native, { blocks: opened, runner: store });
  }
  runner =
    recorder === null
      ? createModelRunner(model, sampler, config.blockSize, { comm, sparse })
      : createModelRunner(
          traceModel(model, recorder),
          traceSampler(sampler, recorder),
          config.blockSize,
          tracePartners({ comm, sparse }, recorder),
        );
  send({
    type: "ready",
    version: PROTOCOL_VERSION,
    weightBytes: model.weightBytes,
    kvBytes: model.arena.kvBytes,
    loadMs: performance.now() - started,
    isa: native.isa(),
  });
  if (opened !== null) {
    stopReports = startReports(opened.report, (report) => send({ type: "storeReport", report }));
  }
}

/** The masks that follow a step's message. */
function nextMasks(): Promise<TokenMask[]> {
  return new Promise((resolve) => {
    takeMasks = resolve;
  });
}

async function step(message: StepMessage): Promise<void> {
  if (runner === null)
    throw new UcmError("UCM_ERR_INTERNAL", "A step came before the model was loaded.");
  const masks = message.awaitsMasks ? nextMasks() : null;
  isStepping = true;
  tracer.begin("step");
  runner.begin(message);
  const result = await (store === null
    ? compute(runner, message, masks)
    : store.run(message, (part, beforeLayer) => compute(runner!, part, masks, beforeLayer)));
  tracer.end();
  const spans = recorder === null ? {} : { spans: [recorder.take()] };
  tracer.begin("reply");
  send({ ...result, ...spans });
  tracer.end();
  tracer.begin("dump");
  store?.dump();
  tracer.end();
  isStepping = false;
}

async function compute(
  { step: run }: ModelRunner,
  message: StepMessage,
  masks: Promise<TokenMask[]> | null,
  beforeLayer: BeforeLayer | null = null,
): Promise<StepResultMessage> {
  tracer.begin("compute");
  const before = recorder === null ? beforeLayer : traceBeforeLayer(beforeLayer, recorder);
  const result = await run(message, masks, before);
  tracer.end();
  return result;
}

/** Blocks that wait to be written are, as far as a few seconds go. */
async function end(): Promise<void> {
  isEnding = true;
  stopReports();
  const open = store;
  store = null;
  sparse?.end({ isStepping });
  await open?.close();
  process.exit(0);
}

async function handle(message: ToWorker): Promise<void> {
  if (message.type === "shutdown") return end();
  if (message.type === "masks") return takeMasks(message.masks);
  try {
    await (message.type === "load" ? load(message) : step(message));
  } catch (thrown) {
    if (isEnding) return;
    const error = toUcmError(thrown);
    send({ type: "failed", error: error.toJSON() });
    // A message that was written for the user says all; only a fault of ours needs its stack.
    const isExplained = thrown === error || error.code === "UCM_ERR_MEMORY";
    if (!isExplained) process.stderr.write(`${(thrown as Error).stack ?? thrown}\n`);
  }
}

/** From the start, so that no worker outlives its parent, whatever it is doing. */
function endWithParent(): void {
  const parent = Number(process.env[PARENT_PID_VARIABLE]);
  try {
    if (parent > 0) loadNative().endWithParent(parent);
  } catch {
    // An addon that cannot be loaded is the answer to the load message.
  }
}

endWithParent();
socket.on("data", (chunk) => {
  tracer.begin("receive");
  const messages = reader.push(chunk);
  tracer.end();
  for (const message of messages) void handle(message as ToWorker);
});
socket.on("close", () => void end());
socket.on("error", () => undefined);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
