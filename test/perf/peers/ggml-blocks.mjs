// Block formats of ggml, as its reference quantizers write them (quantize_row_q8_0_ref and
// quantize_row_q4_0_ref of ggml-quants.c; layouts block_q8_0 and block_q4_0 of ggml-common.h). Blocks are
// of 32 values in a row; a scale is an fp16 in front of the block's integers.

export const BLOCK = 32;

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/** The bits of the nearest fp16, ties to even; what is too large becomes infinity. */
export function halfBits(value) {
  wordAsFloat[0] = value;
  const bits = word[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: adding a power of two leaves the rounded integer in the low bits of the sum.
    wordAsFloat[0] = Math.abs(value) + 0.5;
    return sign | (word[0] - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** C's roundf: halves away from zero. */
const roundAway = (value) => (value < 0 ? -Math.floor(0.5 - value) : Math.floor(value + 0.5));

/** Values to blocks of fp16 scale and 32 int8: scale = greatest magnitude / 127. */
export function quantizeQ8(values) {
  const blockBytes = 2 + BLOCK;
  const out = Buffer.alloc((values.length / BLOCK) * blockBytes);
  for (let start = 0, at = 0; start < values.length; start += BLOCK, at += blockBytes) {
    let most = 0;
    for (let i = start; i < start + BLOCK; i++) most = Math.max(most, Math.abs(values[i]));
    const scale = Math.fround(most / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    out.writeUInt16LE(halfBits(scale), at);
    for (let i = 0; i < BLOCK; i++) {
      out[at + 2 + i] = roundAway(Math.fround(values[start + i] * inverse));
    }
  }
  return out;
}

/**
 * Values to blocks of fp16 scale and 16 bytes: byte i holds values i (low nibble) and i + 16, each
 * plus 8. The value of the greatest magnitude is -8 times the scale.
 */
export function quantizeQ4(values) {
  const blockBytes = 2 + BLOCK / 2;
  const out = Buffer.alloc((values.length / BLOCK) * blockBytes);
  for (let start = 0, at = 0; start < values.length; start += BLOCK, at += blockBytes) {
    let extreme = 0;
    for (let i = start; i < start + BLOCK; i++) {
      if (Math.abs(values[i]) > Math.abs(extreme)) extreme = values[i];
    }
    const scale = Math.fround(extreme / -8);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    const nibble = (value) => Math.min(15, Math.trunc(Math.fround(value * inverse) + 8.5));
    out.writeUInt16LE(halfBits(scale), at);
    for (let i = 0; i < BLOCK / 2; i++) {
      out[at + 2 + i] = nibble(values[start + i]) | (nibble(values[start + BLOCK / 2 + i]) << 4);
    }
  }
  return out;
}

/** Tensor types of GGUF that are written here: id, bytes of so many values, and the conversion. */
export const tensorTypes = {
  F32: {
    id: 0,
    bytes: (count) => 4 * count,
    encode: (values) => Buffer.from(values.buffer, values.byteOffset, values.byteLength),
  },
  F16: { id: 1, bytes: (count) => 2 * count, encode: encodeHalves },
  Q4_0: { id: 2, bytes: (count) => (count / BLOCK) * 18, encode: quantizeQ4 },
  Q8_0: { id: 8, bytes: (count) => (count / BLOCK) * 34, encode: quantizeQ8 },
};

function encodeHalves(values) {
  const halves = Uint16Array.from(values, halfBits);
  return Buffer.from(halves.buffer);
}
