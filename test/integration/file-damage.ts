import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, join } from "node:path";

/** A block file of a store's folder. */
export interface BlockFile {
  path: string;
  /** The hash that it is named by. */
  key: string;
}

/** The block files of a backend folder, in a fixed order. */
export function listBlockFiles(backend: string): BlockFile[] {
  const root = join(backend, "ucm-v1", "blocks");
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".kv"))
    .sort()
    .map((path) => ({ path: join(root, path), key: basename(path, ".kv") }));
}

/**
 * Flips a bit of the byte that far from the file's end, in place: under every name that the file has,
 * and for whoever has it open.
 */
export function flipBitInPlace(path: string, bytesFromEnd: number): void {
  const place = statSync(path).size - bytesFromEnd;
  const file = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, place);
  byte[0]! ^= 1;
  writeSync(file, byte, 0, 1, place);
  closeSync(file);
}

type Damage = (path: string, bytes: Buffer, random: () => number) => void;

const damages: Damage[] = [
  function flipBit(path, bytes, random) {
    const place = Math.floor(random() * bytes.length);
    bytes[place] = bytes[place]! ^ (1 << Math.floor(random() * 8));
    writeFileSync(path, bytes);
  },
  function truncate(path, bytes, random) {
    writeFileSync(path, bytes.subarray(0, Math.floor(random() * bytes.length)));
  },
  function extend(path, bytes) {
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(512, 1)]));
  },
  function zeroSector(path, bytes, random) {
    const sector = Math.floor(random() * Math.floor(bytes.length / 512)) * 512;
    // A sector that holds zeros already would not be damaged.
    if (bytes.subarray(sector, sector + 512).every((byte) => byte === 0)) bytes[sector] = 1;
    else bytes.fill(0, sector, sector + 512);
    writeFileSync(path, bytes);
  },
];

/** Damages about a share of the files, and swaps the names of two more. Returns how many. */
export function damageFiles(backend: string, share: number, random: () => number): number {
  const chosen = listBlockFiles(backend).filter(() => random() < share);
  const swapped = chosen.splice(0, chosen.length > 2 ? 2 : 0);
  for (const [i, { path }] of chosen.entries()) {
    damages[i % damages.length]!(path, readFileSync(path), random);
  }
  const [one, other] = swapped;
  if (one !== undefined && other !== undefined) {
    renameSync(one.path, `${one.path}.swap`);
    renameSync(other.path, one.path);
    renameSync(`${one.path}.swap`, other.path);
  }
  return chosen.length + swapped.length;
}
