import { UcmError } from "../errors/index.js";

const KEY_BYTES = 32;

/** Block hashes of 64 hexadecimal digits as the store's keys, uint8 [keys * 32]. */
export function encodeKeys(keys: readonly string[]): Uint8Array {
  const bytes = Buffer.from(keys.join(""), "hex");
  if (bytes.length !== keys.length * KEY_BYTES) {
    throw new UcmError("UCM_ERR_INTERNAL", "A block hash is not 64 hexadecimal digits.");
  }
  return bytes;
}
