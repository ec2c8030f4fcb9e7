import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadModelConfig, openCheckpoint, openDummyWeights } from "../../../src/model/index.js";
import { shardConfig, vocabShare } from "../../../src/model/shard.js";
import {
  embeddingSpec,
  headSpec,
  layerSpec,
  type TensorSpec,
} from "../../../src/model/tensor-names.js";
import { loadNative } from "../../../src/native/index.js";
import { encodeSafetensors, makeFolder, tinyConfig } from "../../helpers/checkpoint.js";

const native = loadNative();
const model = loadModelConfig(
  makeFolder({
    "config.json": JSON.stringify({
      ...tinyConfig,
      architectures: ["LlamaForCausalLM"],
      attention_bias: true,
      mlp_bias: true,
    }),
  }),
);

/** Every matrix and bias of layer 0 and the vocabulary, for one shard. */
function specsOf(worldSize: number, rank: number): TensorSpec[] {
  const shard = { rank, worldSize };
  const { qkv, output, gate, up, down } = layerSpec(model, 0, shard);
  const linears = [qkv, output, gate, up, down, headSpec(model, shard)];
  return [
    ...linears.flatMap(({ weights, biases }) => [...weights, ...biases]),
    embeddingSpec(model, shard),
  ];
}

const sizeOf = ({ shape }: TensorSpec) => shape.reduce((product, dim) => product * dim, 1);

/** How often the shards read each element of each tensor. */
function coverage(worldSize: number): Map<string, Uint8Array> {
  const counts = new Map<string, Uint8Array>();
  for (let rank = 0; rank < worldSize; rank++) {
    for (const { name, shape, whole } of new Set(specsOf(worldSize, rank))) {
      const all = whole?.shape ?? shape;
      const width = all[1] ?? 1;
      const seen = counts.get(name) ?? new Uint8Array(sizeOf({ name, shape: all }));
      counts.set(name, seen);
      for (let row = 0; row < shape[0]!; row++) {
        for (let col = 0; col < (shape[1] ?? 1); col++) {
          seen[((whole?.row ?? 0) + row) * width + (whole?.col ?? 0) + col]! += 1;
        }
      }
    }
  }
  return counts;
}

describe("shards", () => {
  it.each([1, 2, 4])("of %i ranks have every element, and share KV heads alone", (worldSize) => {
    for (const [name, counts] of coverage(worldSize)) {
      const isTied = name.includes("embed_tokens");
      const isShared = /[kv]_proj/.test(name) && worldSize === 4;
      const expected = isTied || isShared ? 2 : 1;
      expect([name, new Set(counts)]).toEqual([name, new Set([expected])]);
    }
  });

  it("have sizes that attention can use", () => {
    for (const [worldSize, numKvHeads] of [
      [1, 2],
      [2, 1],
      [4, 1],
    ] as const) {
      const local = shardConfig(model, { rank: worldSize - 1, worldSize });
      expect(local).toMatchObject({ numQueryHeads: 4 / worldSize, numKvHeads });
    }
  });

  it("leave the last ranks fewer tokens of a vocabulary that does not divide", () => {
    const shares = [0, 1, 2].map((rank) => vocabShare(100, { rank, worldSize: 3 }));
    expect(shares.map(({ begin, end }) => [begin, end])).toEqual([
      [0, 34],
      [34, 68],
      [68, 100],
    ]);
  });
});

/** A checkpoint whose elements are their own places. */
function numberedFolder(): string {
  const folder = makeFolder({});
  const tensors = Object.fromEntries(
    specsOf(1, 0).map((spec) => [
      spec.name,
      {
        shape: [...spec.shape],
        data: Float32Array.from({ length: sizeOf(spec) }, (_, i) => i),
      },
    ]),
  );
  writeFileSync(`${folder}/model.safetensors`, encodeSafetensors(tensors));
  return folder;
}

describe.each([
  ["a checkpoint", () => openCheckpoint(numberedFolder(), "auto", native)],
  ["made-up weights", () => openDummyWeights(7, native)],
])("parts of %s", (_, open) => {
  it("are those of the whole tensor", () => {
    const source = open();
    for (const [i, part] of specsOf(4, 3).entries()) {
      const whole = specsOf(1, 0).find(({ name }) => name === part.name)!;
      if (part.whole === undefined) continue;
      const all = new Float32Array(sizeOf(whole));
      source.readRows(whole, 0, whole.shape[0]!, all);
      const read = new Float32Array(sizeOf(part));
      const [rows = 0, cols = 1] = part.shape;
      source.check(part);
      // In two pieces, as quantizing does.
      source.readRows(part, 0, 1, read.subarray(0, cols));
      source.readRows(part, 1, rows, read.subarray(cols));
      const width = whole.shape[1] ?? 1;
      const expected = read.map(
        (_, at) =>
          all[(part.whole!.row + Math.floor(at / cols)) * width + part.whole!.col + (at % cols)]!,
      );
      expect([i, read]).toEqual([i, expected]);
    }
    source.dispose();
  });

  it("are looked up by their own rows", () => {
    const source = open();
    const [whole, part] = [embeddingSpec(model), embeddingSpec(model, { rank: 2, worldSize: 4 })];
    const width = model.hiddenSize;
    const [expected, actual] = [new Float32Array(2 * width), new Float32Array(2 * width)];
    source.gather(whole, Int32Array.of(48, 71), expected);
    source.gather(part, Int32Array.of(0, 23), actual);
    expect(actual).toEqual(expected);
    source.dispose();
  });
});
