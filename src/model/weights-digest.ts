import { createHash, type Hash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { listTensors, type StoredTensor } from "./safetensors.js";

/** Checkpoints up to this size are hashed whole: a second or so. */
const WHOLE_BYTES_MAX = 1 << 30;
/** Of tensors of larger ones so many pieces of so many bytes, spread evenly, the ends among them. */
const PIECES = 32;
const PIECE_BYTES = 32 * 1024;

/**
 * SHA-256 of a checkpoint's weights, 64 hexadecimal digits: of names, dtypes, shapes and bytes. Where
 * the files lie, how they are cut into shards and when they were written does not matter. Of a large
 * checkpoint a sample of each tensor is read, which any training or merging changes.
 */
export function weightsDigest(folder: string): string {
  const tensors = [...listTensors(folder).values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const totalBytes = tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const hash = createHash("sha256");
  const files = new Map<string, number>();
  try {
    for (const tensor of tensors) {
      const { name, dtype, shape, path } = tensor;
      hash.update(`${JSON.stringify([name, dtype, shape])}\n`);
      if (!files.has(path)) files.set(path, openSync(path, "r"));
      hashBytes(hash, files.get(path)!, tensor, totalBytes <= WHOLE_BYTES_MAX);
    }
  } finally {
    for (const fd of files.values()) closeSync(fd);
  }
  return hash.digest("hex");
}

function hashBytes(hash: Hash, fd: number, tensor: StoredTensor, isWhole: boolean): void {
  const { byteOffset, byteLength } = tensor;
  const buffer = Buffer.alloc(1 << 20);
  const read = (begin: number, length: number) => {
    for (let done = 0; done < length; ) {
      const wanted = Math.min(buffer.length, length - done);
      const got = readSync(fd, buffer, 0, wanted, byteOffset + begin + done);
      if (got === 0) break;
      hash.update(buffer.subarray(0, got));
      done += got;
    }
  };
  if (isWhole || byteLength <= PIECES * PIECE_BYTES) {
    read(0, byteLength);
    return;
  }
  for (let i = 0; i < PIECES; i++) {
    read(Math.floor(((byteLength - PIECE_BYTES) * i) / (PIECES - 1)), PIECE_BYTES);
  }
}
