import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { UcmError } from "../errors/index.js";
import type { FloatDtype } from "../native/index.js";

/** Where one tensor's bytes are: row-major, little-endian. */
export interface StoredTensor {
  name: string;
  dtype: FloatDtype;
  shape: readonly number[];
  /** Absolute path of the safetensors file. */
  path: string;
  /** From the start of the file. */
  byteOffset: number;
  byteLength: number;
}

const dtypes: Readonly<Record<string, { dtype: FloatDtype; bytes: number }>> = {
  F32: { dtype: "float32", bytes: 4 },
  F16: { dtype: "float16", bytes: 2 },
  BF16: { dtype: "bfloat16", bytes: 2 },
};

const LENGTH_BYTES = 8;
/** The limit of the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;
const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

const entrySchema = z.object({
  dtype: z.string(),
  shape: z.array(z.int().nonnegative()),
  data_offsets: z.tuple([z.int().nonnegative(), z.int().nonnegative()]),
});
const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * Lists the tensors of a checkpoint folder: model.safetensors, or the shards that
 * model.safetensors.index.json names. Reads headers only, and checks them against the file sizes, so
 * that a truncated download is found before anything is computed. UCM_ERR_WEIGHTS on any defect.
 */
export function listTensors(folder: string): Map<string, StoredTensor> {
  const single = join(folder, SINGLE);
  if (existsSync(single)) return attemptRead(single, () => readHeader(single));
  const indexPath = join(folder, INDEX);
  if (!existsSync(indexPath)) {
    throw weightsError(
      `No weights in ${folder}: expected ${SINGLE} or ${INDEX}. ` +
        "Convert other formats to safetensors, or pass --load-format dummy for random weights.",
    );
  }
  return readShards(folder, indexPath);
}

function readShards(folder: string, indexPath: string): Map<string, StoredTensor> {
  const text = attemptRead(indexPath, () => readFileSync(indexPath, "utf8"));
  const index = indexSchema.safeParse(parseJson(text, indexPath));
  if (!index.success)
    throw weightsError(`${indexPath} is not usable: expected {"weight_map": {tensor: file}}.`);
  const weightMap = index.data.weight_map;
  const shards = new Map<string, Map<string, StoredTensor>>();
  for (const file of new Set(Object.values(weightMap))) {
    if (file.includes("/") || file.includes("\\")) {
      throw weightsError(`${indexPath} names shard '${file}'; expected a file name beside it.`);
    }
    const path = join(folder, file);
    if (!existsSync(path)) {
      throw weightsError(
        `Missing shard ${path}, which ${INDEX} names. Download the checkpoint again.`,
      );
    }
    shards.set(
      file,
      attemptRead(path, () => readHeader(path)),
    );
  }
  const tensors = new Map<string, StoredTensor>();
  for (const [name, file] of Object.entries(weightMap)) {
    const tensor = shards.get(file)?.get(name);
    if (tensor === undefined) {
      throw weightsError(`${INDEX} says that ${file} holds tensor '${name}', but it does not.`);
    }
    tensors.set(name, tensor);
  }
  return tensors;
}

/** Parses one file's header. Format: u64 length, JSON {name: {dtype, shape, data_offsets}}, data. */
function readHeader(path: string): Map<string, StoredTensor> {
  const fd = openSync(path, "r");
  try {
    const fileBytes = fstatSync(fd).size;
    const prefix = Buffer.alloc(LENGTH_BYTES);
    const got = readSync(fd, prefix, 0, LENGTH_BYTES, 0);
    const claimed = got === LENGTH_BYTES ? prefix.readBigUInt64LE() : null;
    if (claimed === null || claimed > Math.min(fileBytes - LENGTH_BYTES, MAX_HEADER_BYTES)) {
      throw weightsError(
        `${path} is not a safetensors file or is truncated: it has ${fileBytes} bytes, and its header ` +
          `claims ${claimed ?? "no"} bytes. Download it again.`,
      );
    }
    const headerBytes = Number(claimed);
    const header = Buffer.alloc(headerBytes);
    readSync(fd, header, 0, headerBytes, LENGTH_BYTES);
    return readEntries(path, header.toString("utf8"), LENGTH_BYTES + headerBytes, fileBytes);
  } finally {
    closeSync(fd);
  }
}

function readEntries(path: string, header: string, dataStart: number, fileBytes: number) {
  const json = parseJson(header, `the header of ${path}`);
  if (typeof json !== "object" || json === null)
    throw weightsError(`The header of ${path} is no JSON object.`);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, value] of Object.entries(json)) {
    if (name === "__metadata__") continue;
    const entry = entrySchema.safeParse(value);
    if (!entry.success)
      throw weightsError(`${path}: the header entry of tensor '${name}' is malformed.`);
    tensors.set(name, checkEntry(name, entry.data, path, dataStart, fileBytes));
  }
  return tensors;
}

function checkEntry(
  name: string,
  entry: z.infer<typeof entrySchema>,
  path: string,
  dataStart: number,
  fileBytes: number,
): StoredTensor {
  const [begin, end] = entry.data_offsets;
  const known = dtypes[entry.dtype];
  if (known === undefined) {
    throw weightsError(
      `${path}: tensor '${name}' has dtype ${entry.dtype}; expected ${Object.keys(dtypes).join(", ")}.`,
    );
  }
  const expected = entry.shape.reduce((product, dim) => product * dim, known.bytes);
  if (end - begin !== expected) {
    throw weightsError(
      `${path}: tensor '${name}' of shape [${entry.shape.join(", ")}] ${entry.dtype} needs ${expected} bytes, its header gives it ${end - begin}.`,
    );
  }
  if (dataStart + end > fileBytes) {
    throw weightsError(
      `${path} is truncated: tensor '${name}' ends at byte ${dataStart + end}, the file has ${fileBytes}. Download it again.`,
    );
  }
  return {
    name,
    dtype: known.dtype,
    shape: entry.shape,
    path,
    byteOffset: dataStart + begin,
    byteLength: expected,
  };
}

/** Turns what the file system refuses, such as the permission to read, into words. */
function attemptRead<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof UcmError) throw error;
    throw weightsError(`Cannot read ${path}: ${(error as Error).message}.`);
  }
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw weightsError(`Cannot parse ${what}: ${(error as Error).message}.`);
  }
}

export function weightsError(message: string): UcmError {
  return new UcmError("UCM_ERR_WEIGHTS", message);
}
