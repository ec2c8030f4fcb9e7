import {
  createGraphBuilder,
  createSession,
  createTensor,
  type GraphBuilder,
  type Session,
  type Tensor,
} from "../onnx/index.js";
import type { Scratch } from "./scratch.js";
import type { LinearSpec, TensorSpec } from "./tensor-names.js";
import type { Activation, WeightFormat } from "./weight-format.js";
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
  /** Made once for all linear layers that share an input. */
  activation(x: string): Activation;
  linear(x: Activation, spec: LinearSpec): string;
  /** down(silu(gate(x)) * up(x)). */
  mlp(x: Activation, layer: { gate: LinearSpec; up: LinearSpec; down: LinearSpec }): string;
  add(a: string, b: string): string;
  /** Makes the session; weights are in it afterwards and the scratch buffers free again. */
  finish(): Promise<Session>;
}

const ROWS = "rows";
const CONSTANTS = "row_constants";

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
  let constants: string | null = null;
  const prepare = (x: string, pending: string | null = null) => {
    if (format.rowConstant !== null) constants ??= g.input(CONSTANTS, [ROWS], "uint8");
    return format.prepare(g, x, constants, pending);
  };
  const vector = (spec: TensorSpec) => g.constant("float32", spec.shape, readVector(source, spec));
  const product = (x: Activation, spec: LinearSpec) => {
    for (const tensor of [...spec.weights, ...spec.biases]) source.check(tensor);
    return format.multiply(g, x, spec, weights);
  };
  const linear = (x: Activation, spec: LinearSpec) => {
    const { value, rowScale } = product(x, spec);
    const scaled = rowScale === null ? value : g.op("Mul", [value, rowScale]);
    return spec.biases.length === 0 ? scaled : g.op("Add", [scaled, biasOf(g, spec, source)]);
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
    activation: (x) => prepare(x),
    linear,
    mlp(x, layer) {
      const gated = g.contrib("QuickGelu", [linear(x, layer.gate)], { alpha: { float: 1 } });
      // Without a bias the scale of up's rows can wait: quantizing their product finds it again, and
      // a pass over the widest tensor of the layer is saved.
      const up =
        layer.up.biases.length === 0
          ? product(x, layer.up)
          : { value: linear(x, layer.up), rowScale: null };
      const fed = g.op("Mul", [gated, up.value]);
      return linear(prepare(fed, up.rowScale), layer.down);
    },
    add: (a, b) => g.op("Add", [a, b]),
    async finish() {
      const session = await createSession(g.build(), { threads: context.threads, buffers });
      scratch.reset();
      return constants === null ? session : withConstants(session, format.rowConstant!);
    },
  };
}

/** Of each value that a format has for rows: a tensor of as many as the last run had rows. */
const constantsOf = new Map<number, Tensor>();

/** Gives a session the constants of its format, one per row of its inputs. */
function withConstants(session: Session, value: number): Session {
  return {
    run(inputs, outputs) {
      const rows = Object.values(inputs)[0]!.dims[0]!;
      let constants = constantsOf.get(value);
      if (constants?.dims[0] !== rows) {
        constants = createTensor(new Uint8Array(rows).fill(value), [rows]);
        constantsOf.set(value, constants);
      }
      return session.run({ ...inputs, [CONSTANTS]: constants }, outputs);
    },
    dispose: session.dispose,
  };
}

function readVector(source: WeightSource, spec: TensorSpec): Float32Array {
  source.check(spec);
  const values = new Float32Array(spec.shape[0]!);
  source.readRows(spec, 0, values.length, values);
  return values;
}

function biasOf(g: GraphBuilder, spec: LinearSpec, source: WeightSource): string {
  const bias = new Float32Array(spec.rows);
  let row = 0;
  for (const tensor of spec.biases) {
    bias.set(readVector(source, tensor), row);
    row += tensor.shape[0]!;
  }
  return g.constant("float32", [spec.rows], bias);
}
