// The model that all engines compute: a folder in Hugging Face's layout with random bf16 weights, and GGUF
// files of the same weights.
//
//   node test/perf/peers/model-files.mjs FOLDER [Q8_0 Q4_0 F16 F32]

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { listTensors } from "../../../dist/model/safetensors.js";
import { qwen25Half } from "../shapes.mjs";
import { writeGguf } from "./gguf.mjs";

/** `[Hugging Face's name, GGUF's name, shape]` of all tensors of a Qwen2 model with tied embeddings. */
export function tensorsOf(config) {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: vocab } = config;
  const kv = (hidden / config.num_attention_heads) * config.num_key_value_heads;
  const layer = (i) =>
    [
      ["input_layernorm.weight", "attn_norm.weight", [hidden]],
      ["self_attn.q_proj.weight", "attn_q.weight", [hidden, hidden]],
      ["self_attn.q_proj.bias", "attn_q.bias", [hidden]],
      ["self_attn.k_proj.weight", "attn_k.weight", [kv, hidden]],
      ["self_attn.k_proj.bias", "attn_k.bias", [kv]],
      ["self_attn.v_proj.weight", "attn_v.weight", [kv, hidden]],
      ["self_attn.v_proj.bias", "attn_v.bias", [kv]],
      ["self_attn.o_proj.weight", "attn_output.weight", [hidden, hidden]],
      ["post_attention_layernorm.weight", "ffn_norm.weight", [hidden]],
      ["mlp.gate_proj.weight", "ffn_gate.weight", [inner, hidden]],
      ["mlp.up_proj.weight", "ffn_up.weight", [inner, hidden]],
      ["mlp.down_proj.weight", "ffn_down.weight", [hidden, inner]],
    ].map(([theirs, ours, shape]) => [`model.layers.${i}.${theirs}`, `blk.${i}.${ours}`, shape]);
  return [
    ["model.embed_tokens.weight", "token_embd.weight", [vocab, hidden]],
    ...Array.from({ length: config.num_hidden_layers }, (_, i) => layer(i)).flat(),
    ["model.norm.weight", "output_norm.weight", [hidden]],
  ];
}

const float = new Float32Array(1);
const floatAsWord = new Uint32Array(float.buffer);

/** The upper half of an fp32, rounded towards zero: good enough for weights that are random anyway. */
function bfloat16Bits(value) {
  float[0] = value;
  return floatAsWord[0] >>> 16;
}

/** Xorshift of 32 bits, uniform in [-1, 1). */
function makeRandom(seed) {
  let state = (seed + 1) * 0x9e3779b1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
}

/**
 * bf16 values of one tensor. Every tensor has its own seed, so no two layers share weights. Norms are near
 * 1; products keep the deviation of what they are fed (times 1.2), so that every layer counts.
 */
function randomTensor(seed, name, shape) {
  const random = makeRandom(seed);
  const count = shape.reduce((product, size) => product * size, 1);
  const out = new Uint16Array(count);
  const isNorm = name.endsWith("norm.weight");
  const centre = isNorm ? 1 : 0;
  const spread = shape.length === 1 ? 0.2 : (1.2 * Math.sqrt(3)) / Math.sqrt(shape[1]);
  for (let i = 0; i < count; i++) out[i] = bfloat16Bits(centre + spread * random());
  return out;
}

/**
 * Makes FOLDER/config.json and model.safetensors, unless they are there: other comparisons may be reading them.
 */
export function makeModelFolder(folder, config = qwen25Half) {
  mkdirSync(folder, { recursive: true });
  const configPath = join(folder, "config.json");
  const text = `${JSON.stringify(config, null, 2)}\n`;
  if (!existsSync(configPath) || readFileSync(configPath, "utf8") !== text) {
    writeFileSync(configPath, text);
  }
  const path = join(folder, "model.safetensors");
  if (existsSync(path)) return;
  const header = {};
  let offset = 0;
  const tensors = tensorsOf(config);
  for (const [name, , shape] of tensors) {
    const end = offset + 2 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: "BF16", shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const fd = openSync(`${path}.part`, "w");
  writeSync(fd, Buffer.concat([length, json]));
  tensors.forEach(([name, , shape], seed) => {
    const values = randomTensor(seed, name, shape);
    const bytes = Buffer.from(values.buffer);
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  });
  closeSync(fd);
  renameSync(`${path}.part`, path);
}

/** A stored bf16 tensor as fp32. */
function readTensor({ path, dtype, byteOffset, byteLength, name }) {
  if (dtype !== "bfloat16") throw new Error(`${name} is ${dtype}; this script reads bfloat16`);
  const halves = new Uint16Array(byteLength / 2);
  const bytes = Buffer.from(halves.buffer);
  const fd = openSync(path, "r");
  for (let done = 0; done < byteLength; ) {
    done += readSync(fd, bytes, done, byteLength - done, byteOffset + done);
  }
  closeSync(fd);
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = halves[i] << 16;
  return new Float32Array(words.buffer);
}

const fileTypes = { F32: 0, F16: 1, Q4_0: 2, Q8_0: 7 };

/**
 * Metadata that llama.cpp needs of a Qwen2 model. All prompts are token ids, but without a vocabulary
 * node-llama-cpp does not load a model, so the tokens have made-up names.
 */
function metadataOf(config, quantization) {
  return [
    ["general.architecture", "string", "qwen2"],
    ["general.name", "string", "random weights"],
    ["general.quantization_version", "u32", 2],
    ["general.file_type", "u32", fileTypes[quantization]],
    ["qwen2.block_count", "u32", config.num_hidden_layers],
    ["qwen2.context_length", "u32", config.max_position_embeddings],
    ["qwen2.embedding_length", "u32", config.hidden_size],
    ["qwen2.feed_forward_length", "u32", config.intermediate_size],
    ["qwen2.attention.head_count", "u32", config.num_attention_heads],
    ["qwen2.attention.head_count_kv", "u32", config.num_key_value_heads],
    ["qwen2.attention.layer_norm_rms_epsilon", "f32", config.rms_norm_eps],
    ["qwen2.rope.freq_base", "f32", config.rope_theta],
    ["tokenizer.ggml.model", "string", "gpt2"],
    ["tokenizer.ggml.pre", "string", "qwen2"],
    [
      "tokenizer.ggml.tokens",
      "strings",
      Array.from({ length: config.vocab_size }, (_, i) => `t${i}`),
    ],
    ["tokenizer.ggml.merges", "strings", []],
  ];
}

/**
 * Writes FOLDER/QUANTIZATION.gguf of a folder's weights, unless it is there, and gives its path. Vectors stay
 * F32. In a Q4_0 file the embedding, which is the head too, is Q8_0, as llama-quantize has it for this shape
 * (its choice, Q6_K, needs rows of a multiple of 256).
 */
export function makeGguf(folder, quantization) {
  const path = join(folder, `${quantization}.gguf`);
  if (existsSync(path)) return path;
  const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
  const stored = listTensors(folder);
  const typeOf = (name, shape) => {
    if (shape.length === 1) return "F32";
    return quantization === "Q4_0" && name === "token_embd.weight" ? "Q8_0" : quantization;
  };
  const tensors = tensorsOf(config).map(([source, name, shape]) => {
    return { source, name, shape, type: typeOf(name, shape) };
  });
  writeGguf(`${path}.part`, metadataOf(config, quantization), tensors, (name) =>
    readTensor(stored.get(name)),
  );
  renameSync(`${path}.part`, path);
  return path;
}

if (process.argv[1] === import.meta.filename) {
  const [folder, ...quantizations] = process.argv.slice(2);
  if (folder === undefined) {
    console.error("usage: model-files.mjs FOLDER [Q8_0 Q4_0 F16 F32]");
    process.exit(2);
  }
  makeModelFolder(folder);
  for (const quantization of quantizations) console.log(makeGguf(folder, quantization));
}
