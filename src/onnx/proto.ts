import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** Element types of ONNX tensors that our graphs use (onnx.proto, TensorProto.DataType). */
export const elementType = { float32: 1, uint8: 2 } as const;
export type ElementType = keyof typeof elementType;

/** A constant of a graph. `data` is little-endian raw bytes; `external` names a byte range elsewhere. */
export interface Initializer {
  name: string;
  type: ElementType;
  dims: readonly number[];
  content:
    | { kind: "raw"; data: Uint8Array }
    | { kind: "external"; location: string; offset: number; length: number };
}

export type Attribute = number | { float: number } | readonly number[] | string;

export interface Node {
  opType: string;
  domain: string;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Readonly<Record<string, Attribute>>;
}

/** A graph input or output; a string dimension is symbolic. */
export interface ValueInfo {
  name: string;
  type: ElementType;
  dims: readonly (number | string)[];
}

export interface Graph {
  name: string;
  nodes: readonly Node[];
  inputs: readonly ValueInfo[];
  outputs: readonly ValueInfo[];
  initializers: readonly Initializer[];
}

/** Operator sets that the graphs are written against. */
const opsets = [
  { domain: "", version: 21 },
  { domain: "com.microsoft", version: 1 },
];
const IR_VERSION = 10;

/** Serializes a model in the ONNX protobuf format (field numbers of onnx.proto, release 1.17). */
export function encodeModel(graph: Graph): Uint8Array {
  const model = new BinaryWriter();
  model.tag(1, WireType.Varint).int64(IR_VERSION);
  model.tag(2, WireType.LengthDelimited).string("ucm");
  message(model, 7, (w) => writeGraph(w, graph));
  for (const { domain, version } of opsets) {
    message(model, 8, (w) => {
      w.tag(1, WireType.LengthDelimited).string(domain);
      w.tag(2, WireType.Varint).int64(version);
    });
  }
  return model.finish();
}

function message(writer: BinaryWriter, field: number, write: (w: BinaryWriter) => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}

function writeGraph(writer: BinaryWriter, graph: Graph): void {
  for (const node of graph.nodes) message(writer, 1, (w) => writeNode(w, node));
  text(writer, 2, graph.name);
  for (const tensor of graph.initializers) message(writer, 5, (w) => writeTensor(w, tensor));
  for (const input of graph.inputs) message(writer, 11, (w) => writeValueInfo(w, input));
  for (const output of graph.outputs) message(writer, 12, (w) => writeValueInfo(w, output));
}

function writeNode(writer: BinaryWriter, node: Node): void {
  for (const input of node.inputs) text(writer, 1, input);
  for (const output of node.outputs) text(writer, 2, output);
  text(writer, 4, node.opType);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(writer, 5, (w) => writeAttribute(w, name, value));
  }
  text(writer, 7, node.domain);
}

function writeAttribute(writer: BinaryWriter, name: string, value: Attribute): void {
  text(writer, 1, name);
  const type = (code: number) => writer.tag(20, WireType.Varint).int32(code);
  if (typeof value === "number") {
    writer.tag(3, WireType.Varint).int64(value);
    type(2);
  } else if (typeof value === "string") {
    text(writer, 4, value);
    type(3);
  } else if ("float" in value) {
    writer.tag(2, WireType.Bit32).float(value.float);
    type(1);
  } else {
    for (const item of value) writer.tag(8, WireType.Varint).int64(item);
    type(7);
  }
}

function writeTensor(writer: BinaryWriter, tensor: Initializer): void {
  for (const dim of tensor.dims) writer.tag(1, WireType.Varint).int64(dim);
  writer.tag(2, WireType.Varint).int32(elementType[tensor.type]);
  text(writer, 8, tensor.name);
  if (tensor.content.kind === "raw") {
    writer.tag(9, WireType.LengthDelimited).bytes(tensor.content.data);
    return;
  }
  const { location, offset, length } = tensor.content;
  for (const [key, value] of Object.entries({ location, offset, length })) {
    message(writer, 13, (w) => {
      text(w, 1, key);
      text(w, 2, String(value));
    });
  }
  const EXTERNAL = 1;
  writer.tag(14, WireType.Varint).int32(EXTERNAL);
}

function writeValueInfo(writer: BinaryWriter, value: ValueInfo): void {
  text(writer, 1, value.name);
  message(writer, 2, (type) => {
    message(type, 1, (tensor) => {
      tensor.tag(1, WireType.Varint).int32(elementType[value.type]);
      message(tensor, 2, (shape) => {
        for (const dim of value.dims) {
          message(shape, 1, (d) => {
            if (typeof dim === "string") text(d, 2, dim);
            else d.tag(1, WireType.Varint).int64(dim);
          });
        }
      });
    });
  });
}
