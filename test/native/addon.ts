import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { loadNative } from "../../src/native/index.js";

export const native = loadNative();

/** Normal values of a deviation, the same for each seed. */
export function randomArray(length: number, seed: number, deviation = 1): Float32Array {
  const values = new Float32Array(length);
  native.fillRandom(values, seed, deviation);
  return values;
}

/** Runs `body` with the path of a file of these bytes, and removes the file afterwards. */
export function withFile<T>(bytes: Uint8Array, body: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), "ucm-native-"));
  try {
    const path = join(folder, "tensor.bin");
    writeFileSync(path, bytes);
    return body(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Expects an error with this code whose message contains `message`. */
export function expectError(body: () => unknown, message: string, code = "UCM_ERR_NATIVE"): void {
  let thrown: unknown;
  try {
    body();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(Error);
  const error = thrown as Error & { code?: string };
  expect(error.message).toContain(message);
  expect(error.code).toBe(code);
}

/** Float32Array over the bytes of anything. */
export function bytesOf(array: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
