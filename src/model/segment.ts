import { createGraphBuilder, createSession, type Session } from "../onnx/index.js";
import { readBias, readVector } from "./read-weights.js";
import type { Scratch } from "./scratch.js";
import type { LinearSpec, TensorSpec } from "./tensor-names.js";
import type { WeightFormat } from "./weight-format.js";
import type { WeightSource } from "./weight-source.js";

export interface SegmentContext {
  source: WeightSource;
  format: WeightFormat;
  scratch: Scratch;
  threads: number;
  normEps: number;
}

/** A graph under construction: the dense operations of the Llama family over [rows, width] tensors. */
export interface Segment {
  input(name: string, width: number): string;
  output(value: string, name: string, width: number): void;
  norm(x: string, weight: TensorSpec): string;
  /** [x + residual, norm of that]. */
  addNorm(x: string, residual: string, weight: TensorSpec): [sum: string, normed: string];
  linear(x: string, spec: LinearSpec): string;
  /** down(silu(gate(x)) * up(x)). */
  mlp(x: string, layer: { gate: LinearSpec; up: LinearSpec; down: LinearSpec }): string;
  add(a: string, b: string): string;
  /** Makes the session; weights are in it afterwards and the scratch buffers free again. */
  finish(): Promise<Session>;
}

const ROWS = "rows";

export function createSegment(name: string, context: SegmentContext): Segment {
  const { source, format, scratch } = context;
  const g = createGraphBuilder(name);
  const buffers: { name: string; data: Uint8Array }[] = [];
  const weights = {
    source,
    scratch,
    addBuffer(data: Uint8Array) {
      const location = `buffer_${buffers.length}`;
      buffers.push({ name: location, data });
      return { location, offset: 0, length: data.byteLength };
    },
  };
  const vector = (spec: TensorSpec) => g.constant("float32", spec.shape, readVector(source, spec));
  const linear = (x: string, spec: LinearSpec) => {
    for (const tensor of [...spec.weights, ...spec.biases]) source.check(tensor);
    const value = format.multiply(g, x, spec, weights);
    if (spec.biases.length === 0) return value;
    return g.op("Add", [value, g.constant("float32", [spec.rows], readBias(source, spec))]);
  };

  return {
    input: (inputName, width) => g.input(inputName, [ROWS, width]),
    output: (value, outputName, width) => g.output(value, outputName, [ROWS, width]),
    norm: (x, weight) =>
      g.op("SimplifiedLayerNormalization", [x, vector(weight)], {
        axis: -1,
        epsilon: { float: context.normEps },
      }),
    addNorm(x, residual, weight) {
      const outputs = g.contribMany(
        "SkipSimplifiedLayerNormalization",
        [x, residual, vector(weight)],
        [true, false, false, true],
        { epsilon: { float: context.normEps } },
      );
      return [outputs[3]!, outputs[0]!];
    },
    linear,
    mlp(x, layer) {
      const gated = g.contrib("QuickGelu", [linear(x, layer.gate)], { alpha: { float: 1 } });
      return linear(g.op("Mul", [gated, linear(x, layer.up)]), layer.down);
    },
    add: (a, b) => g.op("Add", [a, b]),
    async finish() {
      const session = await createSession(g.build(), { threads: context.threads, buffers });
      scratch.reset();
      return session;
    },
  };
}
