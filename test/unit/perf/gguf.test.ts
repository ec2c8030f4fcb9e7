import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeTempFolder } from "../../helpers/temp-folder.js";

const load = (name: string) => import(new URL(`../../perf/peers/${name}`, import.meta.url).href);
const { halfBits, quantizeQ4, quantizeQ8 } = await load("ggml-blocks.mjs");
const { makeGguf, makeModelFolder } = await load("model-files.mjs");

/** The value of an fp16, by its definition. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

describe("fp16", () => {
  it("keeps every fp16 as it is", () => {
    const all = Array.from({ length: 0x10000 }, (_, bits) => bits);
    const changed = all.filter((bits) => {
      const value = halfValue(bits);
      return !Number.isNaN(value) && halfBits(value) !== bits;
    });
    expect(changed).toEqual([]);
    expect(halfValue(halfBits(Number.NaN))).toBeNaN();
  });

  it("rounds to the nearest, halves to even", () => {
    const all = Array.from({ length: 0x7bff }, (_, bits) => bits);
    const wrong = all.filter((bits) => {
      const between = (halfValue(bits) + halfValue(bits + 1)) / 2;
      return (
        halfBits(between) !== (bits % 2 ? bits + 1 : bits) ||
        halfBits(between + between * 2 ** -14) !== bits + 1 ||
        halfBits(between - between * 2 ** -14) !== bits
      );
    });
    expect(wrong).toEqual([]);
    expect(halfBits(65520)).toBe(0x7c00);
  });
});

describe("blocks of ggml", () => {
  const values = Float32Array.from({ length: 64 }, (_, i) =>
    Math.fround(Math.sin(i * i) * (i - 20)),
  );

  it("Q8_0 gives back each value to half a step", () => {
    const bytes: Buffer = quantizeQ8(values);
    expect(bytes.length).toBe(2 * 34);
    values.forEach((value, i) => {
      const block = bytes.subarray(34 * Math.floor(i / 32));
      const scale = halfValue(block.readUInt16LE(0));
      const restored = scale * block.readInt8(2 + (i % 32));
      expect(Math.abs(restored - value)).toBeLessThan(scale * 0.57);
    });
  });

  it("Q4_0 gives back each value to a step, and the greatest one nearly exactly", () => {
    const bytes: Buffer = quantizeQ4(values);
    expect(bytes.length).toBe(2 * 18);
    values.forEach((value, i) => {
      const block = bytes.subarray(18 * Math.floor(i / 32));
      const scale = halfValue(block.readUInt16LE(0));
      const byte = block[2 + (i % 16)]!;
      const nibble = i % 32 < 16 ? byte & 15 : byte >> 4;
      expect(Math.abs(scale * (nibble - 8) - value)).toBeLessThan(Math.abs(scale) * 1.01);
    });
    const most = values.slice(0, 32).reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
    expect(halfValue(bytes.readUInt16LE(0)) * -8).toBeCloseTo(most, 1);
  });

  it("of zeros are zeros", () => {
    expect(quantizeQ8(new Float32Array(32)).every((byte: number) => byte === 0)).toBe(true);
    const [low, high, ...nibbles] = quantizeQ4(new Float32Array(32));
    expect([low & 0x7f, high & 0x7f]).toEqual([0, 0]);
    expect(nibbles).toEqual(Array(16).fill(0x88));
  });
});

/** Tensors of a GGUF file: `{name, sizes, type, offset}`, and where their bytes begin. */
function readHeader(file: Buffer) {
  let at = 0;
  const take = (bytes: number) => {
    at += bytes;
    return file.subarray(at - bytes, at);
  };
  const u32 = () => take(4).readUInt32LE();
  const u64 = () => Number(take(8).readBigUInt64LE());
  const text = () => take(u64()).toString("utf8");
  const readValue = (type: number): unknown => {
    if (type === 4) return u32();
    if (type === 6) return take(4).readFloatLE();
    if (type === 8) return text();
    const elementType = u32();
    return Array.from({ length: u64() }, () => readValue(elementType));
  };
  const magic = take(4).toString("latin1");
  const version = u32();
  const [numTensors, numEntries] = [u64(), u64()];
  const metadata = new Map(
    Array.from({ length: numEntries }, () => [text(), readValue(u32())] as const),
  );
  const tensors = Array.from({ length: numTensors }, () => {
    const name = text();
    const sizes = Array.from({ length: u32() }, u64);
    return { name, sizes, type: u32(), offset: u64() };
  });
  return { magic, version, metadata, tensors, dataStart: Math.ceil(at / 32) * 32 };
}

describe("a GGUF file", () => {
  const config = {
    hidden_size: 64,
    intermediate_size: 96,
    vocab_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 256,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
  };
  const folder = makeTempFolder();
  makeModelFolder(folder, config);
  const read = (quantization: string) => {
    const file = readFileSync(makeGguf(folder, quantization));
    return { file, ...readHeader(file) };
  };

  it("describes the model and all of its tensors, each aligned and within the file", () => {
    const { file, magic, version, metadata, tensors, dataStart } = read("F32");
    expect([magic, version]).toEqual(["GGUF", 3]);
    expect(metadata.get("qwen2.attention.head_count_kv")).toBe(1);
    expect(metadata.get("tokenizer.ggml.tokens")).toHaveLength(128);
    expect(tensors).toHaveLength(2 + 2 * 12);
    const gate = tensors.find(({ name }) => name === "blk.1.ffn_gate.weight");
    expect(gate?.sizes).toEqual([64, 96]);
    expect(tensors.every(({ offset }) => offset % 32 === 0)).toBe(true);
    const last = tensors.at(-1)!;
    expect(file.length).toBe(dataStart + last.offset + 64 * 4);
  });

  it("holds the checkpoint's values, others in every layer", () => {
    const { file, tensors, dataStart } = read("F32");
    const valuesOf = (name: string) => {
      const { offset, sizes } = tensors.find((it) => it.name === name)!;
      const count = sizes.reduce((a, b) => a * b, 1);
      return Array.from({ length: count }, (_, i) => file.readFloatLE(dataStart + offset + 4 * i));
    };
    const stored = readFileSync(join(folder, "model.safetensors"));
    const headerLength = Number(stored.readBigUInt64LE(0));
    const header = JSON.parse(stored.toString("utf8", 8, 8 + headerLength));
    const name = "model.layers.1.self_attn.k_proj.weight";
    const start = 8 + headerLength + header[name].data_offsets[0];
    const values = valuesOf("blk.1.attn_k.weight");
    const bits = Buffer.alloc(4);
    const expected = values.map((_, i) => {
      bits.writeUInt16LE(stored.readUInt16LE(start + 2 * i), 2);
      return bits.readFloatLE(0);
    });
    expect(values).toEqual(expected);
    expect(valuesOf("blk.0.attn_k.weight")).not.toEqual(values);
  });

  it("keeps vectors in fp32, and the embedding of Q4_0 in Q8_0", () => {
    const { tensors } = read("Q4_0");
    const types = new Map(tensors.map(({ name, type }) => [name, type]));
    expect(types.get("token_embd.weight")).toBe(8);
    expect(types.get("blk.0.ffn_down.weight")).toBe(2);
    expect(types.get("blk.0.attn_q.bias")).toBe(0);
  });
});
