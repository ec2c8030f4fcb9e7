import type { Attribute, ElementType, Graph, Initializer, Node, ValueInfo } from "./proto.js";

/** Collects nodes and constants of one graph; value names are made up and never clash. */
export interface GraphBuilder {
  /** fp32. */
  input(name: string, dims: readonly (number | string)[]): string;
  /** Marks `value` as output, under `name`. fp32. */
  output(value: string, name: string, dims: readonly (number | string)[]): void;
  /** A constant whose bytes are written into the graph itself; for small tensors. */
  constant(type: ElementType, dims: readonly number[], data: ArrayBufferView): string;
  /** A constant whose bytes the session takes from `location`, a file or a named buffer. */
  external(
    type: ElementType,
    dims: readonly number[],
    range: { location: string; offset: number; length: number },
  ): string;
  /** Adds a node of the standard operator set and returns its (first) output. */
  op(opType: string, inputs: readonly string[], attributes?: Record<string, Attribute>): string;
  /** The same for ONNX Runtime's contrib operators (domain com.microsoft). */
  contrib(
    opType: string,
    inputs: readonly string[],
    attributes?: Record<string, Attribute>,
  ): string;
  /** A contrib node with several outputs; an unwanted one is asked for with `false` and named ''. */
  contribMany(
    opType: string,
    inputs: readonly string[],
    wanted: readonly boolean[],
    attributes?: Record<string, Attribute>,
  ): string[];
  build(): Graph;
}

export function createGraphBuilder(graphName: string): GraphBuilder {
  const nodes: Node[] = [];
  const inputs: ValueInfo[] = [];
  const outputs: ValueInfo[] = [];
  const initializers: Initializer[] = [];
  let counter = 0;
  const fresh = (hint: string) => `${hint}_${counter++}`;

  const addNode =
    (domain: string) =>
    (opType: string, nodeInputs: readonly string[], attributes: Record<string, Attribute> = {}) => {
      const output = fresh(opType);
      nodes.push({ opType, domain, inputs: nodeInputs, outputs: [output], attributes });
      return output;
    };
  const addInitializer = (
    type: ElementType,
    dims: readonly number[],
    content: Initializer["content"],
  ) => {
    const name = fresh("const");
    initializers.push({ name, type, dims, content });
    return name;
  };

  return {
    input(name, dims) {
      inputs.push({ name, type: "float32", dims });
      return name;
    },
    output(value, name, dims) {
      nodes.push({
        opType: "Identity",
        domain: "",
        inputs: [value],
        outputs: [name],
        attributes: {},
      });
      outputs.push({ name, type: "float32", dims });
    },
    constant(type, dims, data) {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      return addInitializer(type, dims, { kind: "raw", data: bytes });
    },
    external: (type, dims, range) => addInitializer(type, dims, { kind: "external", ...range }),
    op: addNode(""),
    contrib: addNode("com.microsoft"),
    contribMany(opType, nodeInputs, wanted, attributes = {}) {
      const names = wanted.map((want) => (want ? fresh(opType) : ""));
      nodes.push({
        opType,
        domain: "com.microsoft",
        inputs: nodeInputs,
        outputs: names,
        attributes,
      });
      return names;
    },
    build: () => ({ name: graphName, nodes, inputs, outputs, initializers }),
  };
}
