// Writes GGUF files, version 3 (ggml/docs/gguf.md): header, metadata, tensor descriptions, then the
// tensors' bytes, each aligned to 32, all little-endian.

import { closeSync, openSync, writeSync } from "node:fs";
import { tensorTypes } from "./ggml-blocks.mjs";

const ALIGNMENT = 32;
const valueTypes = { u32: 4, f32: 6, string: 8, strings: 9 };
const alignUp = (bytes) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

const u32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const f32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const string = (text) => {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
};
const strings = (texts) =>
  Buffer.concat([u32(valueTypes.string), u64(texts.length), ...texts.map(string)]);
const encoders = { u32, f32, string, strings };

/**
 * Everything before the tensors' bytes, padded to their alignment.
 * `metadata`: `[key, type, value]`; `tensors`: `{name, shape, type}`, shape row-major.
 */
export function encodeHeader(metadata, tensors) {
  let offset = 0;
  const descriptions = tensors.map(({ name, shape, type }) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const { id, bytes } = tensorTypes[type];
    const at = offset;
    offset = alignUp(offset + bytes(count));
    // Dimensions are named from the fastest one, so the other way round.
    const sizes = [...shape].reverse().map(u64);
    return Buffer.concat([string(name), u32(shape.length), ...sizes, u32(id), u64(at)]);
  });
  const entries = metadata.map(([key, type, value]) =>
    Buffer.concat([string(key), u32(valueTypes[type]), encoders[type](value)]),
  );
  const counts = [u64(tensors.length), u64(metadata.length)];
  const header = Buffer.concat([
    Buffer.from("GGUF"),
    u32(3),
    ...counts,
    ...entries,
    ...descriptions,
  ]);
  return Buffer.concat([header, Buffer.alloc(alignUp(header.length) - header.length)]);
}

/** Writes a file; `readValues(name)` gives a tensor's values as Float32Array, one tensor at a time. */
export function writeGguf(path, metadata, tensors, readValues) {
  const fd = openSync(path, "w");
  const append = (bytes) => {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  };
  try {
    append(encodeHeader(metadata, tensors));
    for (const { source, type } of tensors) {
      const bytes = tensorTypes[type].encode(readValues(source));
      append(bytes);
      append(Buffer.alloc(alignUp(bytes.length) - bytes.length));
    }
  } finally {
    closeSync(fd);
  }
}
