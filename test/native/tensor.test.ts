import { describe, expect, it } from "vitest";
import type { FloatDtype } from "../../src/native/index.js";
import { bytesOf, expectError, native, randomArray, withFile } from "./addon.js";

/** Bytes of the values in a dtype that holds them exactly after rounding. */
function encode(values: Float32Array, dtype: FloatDtype): Uint8Array {
  native.roundToDtype(values, dtype);
  if (dtype === "float32") return bytesOf(values);
  if (dtype === "bfloat16") {
    return bytesOf(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16));
  }
  return bytesOf(Uint16Array.from(values, encodeFloat16));
}

/** A normal float16 value as its bits. */
function encodeFloat16(value: number): number {
  if (value === 0) return 0;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value))), -14);
  const mantissa = Math.round((Math.abs(value) / 2 ** exponent) * 1024);
  const biased = mantissa < 1024 ? 0 : exponent + 15;
  return (value < 0 ? 0x8000 : 0) | (biased << 10) | (mantissa & 1023);
}

describe("openMapping", () => {
  it("maps a file and unmaps it", () => {
    withFile(Uint8Array.of(1, 2, 3), (path) => {
      const mapping = native.openMapping(path);
      expect(mapping.byteLength).toBe(3);
      mapping.dispose();
      mapping.dispose();
      expectError(() => mapping.byteLength, "the file mapping was disposed");
      const tensor = { mapping, byteOffset: 0, dtype: "float32" as const };
      expectError(
        () => native.convertToFloat32(tensor, 0, new Float32Array(1)),
        "convertToFloat32: the file mapping was disposed",
      );
    });
  });

  it("maps an empty file", () => {
    withFile(new Uint8Array(), (path) => {
      const mapping = native.openMapping(path);
      expect(mapping.byteLength).toBe(0);
      mapping.dispose();
    });
  });

  it("says why it cannot", () => {
    expectError(
      () => native.openMapping("/no/such/file"),
      "cannot map '/no/such/file': No such file or directory",
    );
    expectError(() => native.openMapping("/"), "cannot map '/': not a regular file");
    expectError(() => native.openMapping(7 as never), "path is 7, expected a string");
  });
});

describe("convertToFloat32 and gatherRows", () => {
  const dtypes: FloatDtype[] = ["float32", "bfloat16", "float16"];

  it.each(dtypes)("reads %s at an odd offset", (dtype) => {
    const values = randomArray(70_001, 4);
    const payload = encode(values, dtype);
    const file = new Uint8Array(payload.length + 9);
    file.set(payload, 9);
    withFile(file, (path) => {
      const mapping = native.openMapping(path);
      const out = new Float32Array(values.length);
      native.convertToFloat32({ mapping, byteOffset: 9, dtype }, values.length, out);
      expect(out).toEqual(values);
      mapping.dispose();
    });
  });

  it.each(dtypes)("gathers rows of %s", (dtype) => {
    const [rows, width] = [50, 37];
    const values = randomArray(rows * width, 5);
    withFile(encode(values, dtype), (path) => {
      const mapping = native.openMapping(path);
      const table = { mapping, byteOffset: 0, dtype };
      const ids = Int32Array.of(49, 0, 7, 7, 21);
      const out = new Float32Array(ids.length * width);
      native.gatherRows(table, rows, width, ids, out);
      ids.forEach((id, i) => {
        expect(out.subarray(i * width, (i + 1) * width)).toEqual(
          values.subarray(id * width, (id + 1) * width),
        );
      });
      expectError(
        () => native.gatherRows(table, rows, width, Int32Array.of(3, 50), out),
        "gatherRows: ids[1] is 50, expected 0 to 49",
      );
      expectError(
        () => native.gatherRows(table, rows + 1, width, ids, out),
        `but the file has ${mapping.byteLength}`,
      );
      expectError(
        () => native.gatherRows(table, rows, width, ids, out.subarray(1)),
        "gatherRows: out has 184 elements, expected at least 185",
      );
      mapping.dispose();
    });
  });

  it("refuses what is no mapping, or lies outside the file", () => {
    const out = new Float32Array(4);
    const fake = { byteLength: 100, dispose() {} };
    expectError(
      () => native.convertToFloat32({ mapping: fake, byteOffset: 0, dtype: "float32" }, 1, out),
      "tensor.mapping is not a file mapping",
    );
    withFile(new Uint8Array(16), (path) => {
      const mapping = native.openMapping(path);
      const convert = (byteOffset: number, count: number) =>
        native.convertToFloat32({ mapping, byteOffset, dtype: "float32" }, count, out);
      convert(0, 4);
      expectError(() => convert(1, 4), "needs 16 bytes at offset 1, but the file has 16");
      expectError(() => convert(17, 0), "needs 0 bytes at offset 17");
      expectError(() => convert(-4, 1), "tensor.byteOffset is -4");
      expectError(() => convert(0, 2 ** 52), "but the file has 16");
      mapping.dispose();
    });
  });
});

describe("roundToDtype", () => {
  it("rounds to nearest, ties to even", () => {
    const values = Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -7, -Math.PI);
    native.roundToDtype(values, "bfloat16");
    expect([...values]).toEqual([1, 1 + 2 ** -6, 1 + 2 ** -7, -3.140625]);
    const halves = Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11, 70000, 2 ** -25, -(2 ** -24));
    native.roundToDtype(halves, "float16");
    expect([...halves]).toEqual([1, 1 + 2 ** -9, Infinity, 0, -(2 ** -24)]);
    const floats = Float32Array.of(1 / 3);
    native.roundToDtype(floats, "float32");
    expect(floats[0]).toBe(Math.fround(1 / 3));
  });
});

describe("quantizeInt4", () => {
  it("packs blocks of 32 with least-squares scales", () => {
    const [rows, cols] = [9, 75];
    const blocks = 3;
    const weight = randomArray(rows * cols, 7, 0.1);
    const packed = new Uint8Array(rows * blocks * 16);
    const scales = new Float32Array(rows * blocks);
    native.quantizeInt4(weight, rows, cols, packed, scales);
    for (let n = 0; n < rows; n++) {
      for (let b = 0; b < blocks; b++) {
        const at = n * blocks + b;
        let [error, plainError, products, squares] = [0, 0, 0, 0];
        const values = weight.subarray(n * cols + b * 32, n * cols + Math.min(cols, b * 32 + 32));
        const extreme = values.reduce((most, x) => (Math.abs(x) > Math.abs(most) ? x : most), 0);
        for (let i = 0; i < 32; i++) {
          const byte = packed[at * 16 + (i >> 1)]!;
          const q = (i % 2 === 0 ? byte & 15 : byte >> 4) - 8;
          if (i >= values.length) {
            expect(q).toBe(0);
            continue;
          }
          const x = values[i]!;
          error += (x - q * scales[at]!) ** 2;
          const plain = Math.min(7, Math.max(-8, Math.round((x * -8) / extreme)));
          plainError += (x - (plain * extreme) / -8) ** 2;
          products += x * q;
          squares += q * q;
        }
        expect(error).toBeLessThanOrEqual(plainError * 1.0001);
        expect(scales[at]).toBeCloseTo(products / squares, 6);
      }
    }
  });

  it("refuses what does not fit or is not finite", () => {
    const weight = new Float32Array(64);
    expectError(
      () => native.quantizeInt4(weight, 2, 32, new Uint8Array(31), new Float32Array(2)),
      "quantizeInt4: packed has 31 elements, expected at least 32",
    );
    weight[40] = Infinity;
    expectError(
      () => native.quantizeInt4(weight, 2, 32, new Uint8Array(32), new Float32Array(2)),
      "row 1 of the weight holds a NaN or an infinity",
    );
  });
});

describe("fillRandom", () => {
  it("depends on seed and index alone", () => {
    const whole = randomArray(200_000, 11);
    native.setThreads(3);
    expect(randomArray(200_000, 11)).toEqual(whole);
    native.setThreads(1);
    expect(randomArray(70_000, 11)).toEqual(whole.subarray(0, 70_000));
    expect(randomArray(10, 12)).not.toEqual(whole.subarray(0, 10));
  });

  it("is normal with the asked deviation", () => {
    const values = randomArray(500_000, 13, 0.02);
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length;
    const beyondTwo = values.reduce((count, x) => count + (Math.abs(x) > 0.04 ? 1 : 0), 0);
    expect(Math.abs(mean)).toBeLessThan(2e-4);
    expect(Math.sqrt(variance)).toBeCloseTo(0.02, 4);
    expect(beyondTwo / values.length).toBeCloseTo(0.0455, 2);
  });

  it("refuses a seed that is no integer", () => {
    expectError(() => native.fillRandom(new Float32Array(1), -1, 1), "seed is -1");
  });
});
