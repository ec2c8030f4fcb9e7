import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { listTensors } from "../../../src/model/safetensors.js";
import { encodeSafetensors, joinSafetensors, makeFolder } from "../../helpers/checkpoint.js";

const matrix = { shape: [2, 3], data: new Float32Array([1, 2, 3, 4, 5, 6]) };
const entry = { dtype: "F32", shape: [2], data_offsets: [0, 8] };

const failure = (files: Record<string, string | Uint8Array>) => {
  try {
    listTensors(makeFolder(files));
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error("the weights were accepted");
};

describe("listTensors", () => {
  it("finds every tensor of a single file", () => {
    const folder = makeFolder({ "model.safetensors": encodeSafetensors({ a: matrix, b: matrix }) });
    const b = listTensors(folder).get("b")!;
    expect(b).toMatchObject({ dtype: "float32", shape: [2, 3], byteLength: 24 });
    expect(listTensors(folder).get("a")!.byteOffset + 24).toBe(b.byteOffset);
  });

  it("follows a sharded index", () => {
    const folder = makeFolder({
      "one.safetensors": encodeSafetensors({ a: matrix }),
      "two.safetensors": encodeSafetensors({ b: matrix }),
      "model.safetensors.index.json": JSON.stringify({
        weight_map: { a: "one.safetensors", b: "two.safetensors" },
      }),
    });
    expect([...listTensors(folder).keys()]).toEqual(["a", "b"]);
  });

  it("tells what the file system refuses", () => {
    const folder = makeFolder({});
    mkdirSync(join(folder, "model.safetensors"));
    expect(() => listTensors(folder)).toThrow(
      `Cannot read ${folder}/model.safetensors: EISDIR: illegal operation on a directory`,
    );
  });

  it("ignores metadata", () => {
    const file = joinSafetensors({ __metadata__: { format: "pt" }, a: entry }, new Uint8Array(8));
    expect(listTensors(makeFolder({ "model.safetensors": file })).size).toBe(1);
  });

  const good = encodeSafetensors({ a: matrix });
  const hugeHeader = Buffer.from(good);
  hugeHeader.writeBigUInt64LE(2n ** 62n);
  const single = (content: string | Uint8Array) => ({ "model.safetensors": content });
  const index = (map: unknown) => ({ "model.safetensors.index.json": JSON.stringify(map) });

  it.each([
    ["no weights", {}, /expected model.safetensors or/],
    ["an empty file", single(""), /truncated: it has 0 bytes/],
    ["a header beyond the file", single(hugeHeader), /claims 4611686018427387904 bytes/],
    ["truncated data", single(good.subarray(0, good.length - 1)), /is truncated: tensor 'a'/],
    [
      "a header that is no JSON",
      single(joinSafetensors('{"a', new Uint8Array(8))),
      /Cannot parse the header/,
    ],
    [
      "a malformed entry",
      single(joinSafetensors({ a: { dtype: "F32" } }, new Uint8Array(8))),
      /'a' is malformed/,
    ],
    [
      "an unknown dtype",
      single(joinSafetensors({ a: { ...entry, dtype: "I8" } }, new Uint8Array(8))),
      /dtype I8/,
    ],
    [
      "offsets that do not fit the shape",
      single(joinSafetensors({ a: { ...entry, shape: [3] } }, new Uint8Array(8))),
      /needs 12 bytes/,
    ],
    [
      "a missing shard",
      index({ weight_map: { a: "one.safetensors" } }),
      /Missing shard .*one.safetensors/,
    ],
    [
      "a shard outside the folder",
      index({ weight_map: { a: "../one.safetensors" } }),
      /expected a file name/,
    ],
    ["a malformed index", index({ weights: 1 }), /weight_map/],
    [
      "an index that lies",
      { ...index({ weight_map: { b: "one.safetensors" } }), "one.safetensors": good },
      /holds tensor 'b', but it does not/,
    ],
  ])("refuses %s", (_, files, message) => {
    expect(failure(files)).toMatchObject({
      code: "UCM_ERR_WEIGHTS",
      message: expect.stringMatching(message),
    });
  });
});
