import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";

const other =
  "blocks are named by sha256_cbor. Results are the same; block hashes differ from vLLM's.";
const weak =
  "it is no cryptographic hash, so a crafted prompt could be given the cached blocks of another. Use sha256_cbor";

/** What becomes of vLLM's values of --prefix-caching-hash-algo: taken, with a warning, or refused. */
const hashAlgorithms = {
  sha256_cbor: { kind: "implemented" },
  sha256: { kind: "accepted", reason: `sha256 hashes Python's pickle format; ${other}` },
  sha256_cbor_64bit: { kind: "accepted", reason: `64 bits of a hash are too few; ${other}` },
  builtin: { kind: "accepted", reason: `builtin is Python's own hash; ${other}` },
  xxhash: { kind: "refused", reason: weak },
  xxhash_cbor: { kind: "refused", reason: weak },
} as const;

export type HashAlgorithmName = keyof typeof hashAlgorithms;

/** Values that --prefix-caching-hash-algo takes. */
export const hashAlgorithmNames = Object.keys(hashAlgorithms) as HashAlgorithmName[];

export interface PrefixCachingOptions {
  enablePrefixCaching: boolean;
  prefixCachingHashAlgo: HashAlgorithmName | null;
}

/**
 * Prefix caching as the engine needs it. Warns of a hash algorithm that is another in effect.
 * @throws UcmError UCM_ERR_USAGE for one that would be unsafe.
 */
export function resolvePrefixCaching(options: PrefixCachingOptions, env: NodeJS.ProcessEnv) {
  const name = options.prefixCachingHashAlgo ?? "sha256_cbor";
  const algorithm = hashAlgorithms[name];
  if (algorithm.kind === "refused") {
    throw new UcmError(
      "UCM_ERR_USAGE",
      `argument --prefix-caching-hash-algo: ${name} is not supported: ${algorithm.reason}.`,
      { param: "prefix-caching-hash-algo" },
    );
  }
  if (algorithm.kind === "accepted" && options.enablePrefixCaching) {
    log.warning(`--prefix-caching-hash-algo ${name}: ${algorithm.reason}`);
  }
  return {
    enablePrefixCaching: options.enablePrefixCaching,
    blockHashSeed: env.PYTHONHASHSEED ?? null,
  };
}
