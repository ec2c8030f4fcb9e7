import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeTempFolder } from "./temp-folder.js";

/** A small Qwen2 config.json: 2 layers, 4 query heads over 2 KV heads of 32. */
export const tinyConfig = {
  architectures: ["Qwen2ForCausalLM"],
  vocab_size: 96,
  hidden_size: 128,
  intermediate_size: 192,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 2048,
  rope_theta: 10000,
  tie_word_embeddings: true,
  torch_dtype: "float32",
  eos_token_id: 1,
};

/** Bytes of a safetensors file that holds `tensors`, all F32. */
export function encodeSafetensors(
  tensors: Record<string, { shape: number[]; data: Float32Array }>,
): Buffer {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  return joinSafetensors(
    header,
    Buffer.concat(
      Object.values(tensors).map(({ data }) =>
        Buffer.from(data.buffer, data.byteOffset, data.byteLength),
      ),
    ),
  );
}

/** The raw format: u64 header length, header, data. */
export function joinSafetensors(header: unknown, data: Uint8Array): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

/** A fresh temporary folder with the given files. */
export function makeFolder(files: Record<string, string | Uint8Array>): string {
  const folder = makeTempFolder();
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}
