import type { TokenBytes } from "./token-bytes.js";
import type { IncrementalDetokenizer } from "./types.js";

/** Bytes of a token id as they enter the text: empty for skipped and unknown ids. */
export type BytesOfId = (tokenId: number) => Buffer;

/**
 * Text of the concatenated bytes, invalid sequences as U+FFFD (one per maximal subpart, as the
 * Unicode standard recommends), less what the decoder strips from the start.
 */
export function decodeTokens(
  tokenIds: readonly number[],
  bytesOf: BytesOfId,
  strip: TokenBytes["strip"],
): string {
  const text = Buffer.concat(tokenIds.map(bytesOf)).toString("utf8");
  return text.slice(countStripped(text, strip.content, strip.count));
}

/**
 * A detokenizer whose output, concatenated and flushed, is what {@link decodeTokens} adds to the
 * prompt's text. A character that the prompt's tokens begin and the first output tokens complete
 * belongs to the output. Each push costs time in proportion to the token's own bytes.
 */
export function createDetokenizer(
  promptTokenIds: readonly number[],
  bytesOf: BytesOfId,
  strip: TokenBytes["strip"],
): IncrementalDetokenizer {
  let pending: Buffer = Buffer.alloc(0);
  let left = strip.count;

  function emit(bytes: Buffer): string {
    const text = bytes.toString("utf8");
    if (left === 0 || text.length === 0) return text;
    const stripped = countStripped(text, strip.content, left);
    left = stripped < text.length ? 0 : left - stripped;
    return text.slice(stripped);
  }

  function push(tokenId: number): string {
    const bytes = bytesOf(tokenId);
    if (bytes.length === 0) return "";
    const all = pending.length === 0 ? bytes : Buffer.concat([pending, bytes]);
    const held = incompleteSuffixLength(all);
    pending = all.subarray(all.length - held);
    return emit(all.subarray(0, all.length - held));
  }

  let position = 0;
  while (left > 0 && position < promptTokenIds.length) push(promptTokenIds[position++]!);
  for (const tokenId of tailOf(promptTokenIds, position, bytesOf)) push(tokenId);

  return {
    push,
    flush() {
      const rest = pending;
      pending = Buffer.alloc(0);
      return emit(rest);
    },
  };
}

/** The last tokens from `start` on that hold at least four bytes: no open character starts before. */
function tailOf(tokenIds: readonly number[], start: number, bytesOf: BytesOfId): readonly number[] {
  let from = tokenIds.length;
  for (let bytes = 0; from > start && bytes < 4; ) bytes += bytesOf(tokenIds[--from]!).length;
  return tokenIds.slice(from);
}

/** How many of the first `limit` characters are `content`. */
function countStripped(text: string, content: string, limit: number): number {
  let count = 0;
  while (count < limit && text[count] === content) count++;
  return count;
}

/** Bytes at the end that begin a UTF-8 character which further bytes may complete: 0 to 3. */
function incompleteSuffixLength(bytes: Buffer): number {
  for (let length = 1; length <= Math.min(3, bytes.length); length++) {
    const byte = bytes[bytes.length - length]!;
    if ((byte & 0xc0) === 0x80) continue;
    const expected = byte >= 0xf0 && byte <= 0xf4 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 1;
    return byte <= 0xf4 && expected > length ? length : 0;
  }
  return 0;
}
