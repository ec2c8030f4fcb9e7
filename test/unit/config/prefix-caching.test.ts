import { describe, expect, it } from "vitest";
import {
  type HashAlgorithmName,
  hashAlgorithmNames,
  resolvePrefixCaching,
} from "../../../src/config/prefix-caching.js";
import { captureLog } from "../../helpers/captured-log.js";

const logged = captureLog();

const resolve = (prefixCachingHashAlgo: HashAlgorithmName | null, env: NodeJS.ProcessEnv = {}) =>
  resolvePrefixCaching({ enablePrefixCaching: true, prefixCachingHashAlgo }, env);

describe("resolvePrefixCaching", () => {
  it("takes the seed of the hash chain from PYTHONHASHSEED", () => {
    expect(resolve(null)).toEqual({ enablePrefixCaching: true, blockHashSeed: null });
    expect(resolve(null, { PYTHONHASHSEED: "0" }).blockHashSeed).toBe("0");
    expect(resolve("sha256_cbor", { PYTHONHASHSEED: "" }).blockHashSeed).toBe("");
    expect(logged()).toBe("");
  });

  it.each(["sha256", "sha256_cbor_64bit", "builtin"] as const)(
    "warns that %s is not used",
    (name) => {
      resolve(name);
      expect(logged()).toContain(`--prefix-caching-hash-algo ${name}: `);
      expect(logged()).toContain("blocks are named by sha256_cbor");
    },
  );

  it.each(["xxhash", "xxhash_cbor"] as const)("refuses %s with the reason", (name) => {
    expect(() => resolve(name)).toThrow(
      expect.objectContaining({
        code: "UCM_ERR_USAGE",
        message: expect.stringMatching(
          /is not supported: it is no cryptographic hash.*Use sha256_cbor/,
        ),
      }),
    );
  });

  it("knows every algorithm that the flag takes", () => {
    for (const name of hashAlgorithmNames) {
      if (!name.startsWith("xxhash")) expect(resolve(name).enablePrefixCaching).toBe(true);
    }
    expect(hashAlgorithmNames).toContain("sha256_cbor");
  });
});
