import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { BlockHasher, hashBlock, hashRoot } from "../../../src/kvcache/block-hash.js";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Of vLLM's sha256_cbor with PYTHONHASHSEED=0, blocks of 16 tokens. */
const vectors = {
  root: "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e",
  first: "202da172482d928bbc42ab25b0151e2b895f13f41002e27b2ceabcfae6d332ea",
  second: "4a0a393805c6d2f0ed831000d41bb65980336c4c04895d5e26470bbec927f5bf",
  salted: "0222f5b704a8247ae4068ec648ea39b6a207f22cee65f086f86091a2d25fbd47",
  loraAndSalt: "7c8449dc50d644bae8a0f8a1f60e3ca033cc3c923fab2cd1cece5b1e27f0fce9",
};

describe("vLLM's hashes", () => {
  it("come out for PYTHONHASHSEED=0", () => {
    const root = hashRoot("0");
    expect(hex(root)).toBe(vectors.root);
    const first = hashBlock(root, range(1, 16), null);
    expect(hex(first)).toBe(vectors.first);
    expect(hex(hashBlock(first, range(17, 32), null))).toBe(vectors.second);
    expect(hex(hashBlock(root, range(1, 16), ["salt"]))).toBe(vectors.salted);
    expect(hex(hashBlock(root, range(1, 16), ["lora-a", "salt"]))).toBe(vectors.loraAndSalt);
  });

  it("come out for PYTHONHASHSEED=42", () => {
    const root = hashRoot("42");
    expect(hex(root)).toBe("9fa6eb003f14425eb9c8e6baacfbcaab26257357b829c7bfa74ffcc4f31c1780");
    expect(hex(hashBlock(root, range(1, 16), null))).toBe(
      "476e88fb0c175c0b4ef0343e158b5157c2ac537d37d97830e235fcc84bc5706d",
    );
  });

  it("are of canonical CBOR at every width of integer and length", () => {
    const root = new Uint8Array(32).fill(7);
    const widths = [0, 23, 24, 255, 256, 65_535, 65_536, 2 ** 31 - 1];
    const cbor = Buffer.concat([
      Buffer.from("835820", "hex"),
      root,
      Buffer.from("880017181818ff19010019ffff1a000100001a7fffffff", "hex"),
      Buffer.from("f6", "hex"),
    ]);
    expect(hex(hashBlock(root, widths, null))).toBe(sha256(cbor));
    const long = new Array<number>(1024).fill(1);
    const text = "é".repeat(200);
    const longCbor = Buffer.concat([
      Buffer.from("835820", "hex"),
      root,
      Buffer.from("990400", "hex"),
      Buffer.from(long),
      Buffer.from("81790190", "hex"),
      Buffer.from(text),
    ]);
    expect(hex(hashBlock(root, long, [text]))).toBe(sha256(longCbor));
  });
});

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

describe("a chain", () => {
  const hasher = new BlockHasher({ blockSize: 16, seed: "0" });

  it("has a hash for every full block, and the salt in the first", () => {
    expect(hasher.chain(range(1, 15), null).hashes).toEqual([]);
    expect(hasher.chain(range(1, 33), null).hashes).toEqual([vectors.first, vectors.second]);
    const salted = hasher.chain(range(1, 32), "salt").hashes;
    expect(salted[0]).toBe(vectors.salted);
    const parent = Buffer.from(vectors.salted, "hex");
    expect(salted[1]).toBe(hex(hashBlock(parent, range(17, 32), null)));
  });

  it("grows token by token as if it had been made at once", () => {
    const chain = hasher.chain(range(1, 10), "salt");
    for (const tokenId of range(11, 40)) chain.push(tokenId);
    expect(chain.hashes).toEqual(hasher.chain(range(1, 40), "salt").hashes);
  });

  it("forks into chains that do not know of each other", () => {
    const chain = hasher.chain(range(1, 20), "salt");
    const fork = chain.fork();
    for (const tokenId of range(21, 32)) fork.push(tokenId);
    expect(chain.hashes).toHaveLength(1);
    for (const tokenId of range(121, 132)) chain.push(tokenId);
    expect(fork.hashes).toEqual(hasher.chain(range(1, 32), "salt").hashes);
    expect(chain.hashes[1]).not.toBe(fork.hashes[1]);
  });

  it("tells the order of tokens, their blocks, salts and seeds apart", () => {
    const chains = [
      hasher.chain(range(1, 16), null),
      hasher.chain([2, 1, ...range(3, 16)], null),
      hasher.chain(range(1, 16), "a"),
      hasher.chain(range(1, 16), "b"),
      new BlockHasher({ blockSize: 16, seed: null }).chain(range(1, 16), null),
      new BlockHasher({ blockSize: 16, seed: "" }).chain(range(1, 16), null),
    ];
    expect(new Set(chains.map(({ hashes }) => hashes[0])).size).toBe(chains.length);
  });

  it("without PYTHONHASHSEED starts where it started in every run before", () => {
    expect(hex(hashRoot(null))).toBe(
      "0567411b541fc1abebc5661876e24476c5a8fb5eeaf165498f540acc0bc1b3b4",
    );
  });
});
