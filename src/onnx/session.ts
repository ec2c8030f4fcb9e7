import "./no-telemetry.js";

import * as ort from "onnxruntime-node";
import { encodeModel, type Graph } from "./proto.js";

/** A tensor over memory of ours: row-major, never copied on the way in or out. */
export type Tensor = ort.Tensor;

export interface Session {
  /** Runs the graph; `outputs` are written in place. Blocks the thread until it is done. */
  run(inputs: Record<string, Tensor>, outputs: Record<string, Tensor>): Promise<void>;
  dispose(): Promise<void>;
}

export interface SessionOptions {
  threads: number;
  /** Bytes of initializers whose `location` is a name here; copied while the session is made. */
  buffers: readonly { name: string; data: Uint8Array }[];
}

/** Of ONNX Runtime: another version may add the terms of a product in another order. */
export const runtimeVersion: string = ort.env.versions.node ?? ort.env.versions.common;

const ERRORS_ONLY = 3;

/**
 * Makes a session for a graph. Threads of the session never spin: with several sessions in a process
 * spinning pools take the cores from each other. Denormals count as zero, as they slow x86 down by
 * several times and no weight format depends on them. No arena either: each session would keep its own
 * high-water mark of intermediates, where the C library's heap serves all sessions with one.
 */
export async function createSession(graph: Graph, options: SessionOptions): Promise<Session> {
  const session = await ort.InferenceSession.create(encodeModel(graph), {
    executionProviders: ["cpu"],
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    executionMode: "sequential",
    graphOptimizationLevel: "all",
    enableCpuMemArena: false,
    enableMemPattern: false,
    logSeverityLevel: ERRORS_ONLY,
    externalData: options.buffers.map(({ name, data }) => ({ path: name, data })),
    extra: { session: { set_denormal_as_zero: "1", intra_op: { allow_spinning: "0" } } },
  });
  return {
    async run(inputs, outputs) {
      await session.run(inputs, outputs);
    },
    dispose: () => session.release(),
  };
}

/** Views `data` as a tensor; `data` must hold exactly the product of `dims`. */
export function createTensor(data: Float32Array, dims: readonly number[]): Tensor {
  return new ort.Tensor("float32", data, dims);
}
