import { z } from "zod";

/**
 * How a vocabulary's tokens spell text, from the `decoder` of tokenizer.json. Every supported
 * decoder comes down to bytes per token, concatenated and read as UTF-8, less some leading
 * characters; that is what makes streaming exact.
 */
export interface TokenBytes {
  /** The bytes that a token stands for. */
  bytesOf(token: string): Buffer;
  /** Up to `count` times `content` is removed from the start of the text. */
  strip: { content: string; count: number };
}

interface Spelling {
  byteLevel: boolean;
  byteFallback: boolean;
  replacements: [from: string, to: string][];
  strip: { content: string; count: number };
}

/** One step of a decoder: the part of the schema that is understood, and what it does. */
const decoderSteps: Record<string, (step: unknown, spelling: Spelling) => void> = {
  ByteLevel: (_, spelling) => {
    spelling.byteLevel = true;
  },
  ByteFallback: (_, spelling) => {
    spelling.byteFallback = true;
  },
  Fuse: () => {},
  Replace: (step, spelling) => {
    const { pattern, content } = z
      .object({ pattern: z.object({ String: z.string().min(1) }), content: z.string() })
      .parse(step);
    spelling.replacements.push([pattern.String, content]);
  },
  Strip: (step, spelling) => {
    const { content, start } = z
      .object({ content: z.string().length(1), start: z.int().min(0), stop: z.literal(0) })
      .parse(step);
    spelling.strip = { content, count: start };
  },
  Metaspace: (step, spelling) => {
    const { replacement, prepend_scheme } = z
      .object({ replacement: z.string().min(1), prepend_scheme: z.string().default("always") })
      .parse(step);
    spelling.replacements.push([replacement, " "]);
    spelling.strip = { content: " ", count: prepend_scheme === "never" ? 0 : 1 };
  },
};

const decoderSchema = z.object({ type: z.string(), decoders: z.array(z.unknown()).optional() });

/**
 * Reads the decoder of tokenizer.json. Throws an Error in words for one that cannot be streamed
 * exactly (WordPiece, CTC, regular-expression replacements, or none at all).
 */
export function compileTokenBytes(decoder: unknown): TokenBytes {
  const spelling: Spelling = {
    byteLevel: false,
    byteFallback: false,
    replacements: [],
    strip: { content: " ", count: 0 },
  };
  addDecoderStep(decoder, spelling);
  return {
    strip: spelling.strip,
    bytesOf: spelling.byteLevel
      ? byteLevelBytes
      : (token) => plainBytes(token, spelling.replacements, spelling.byteFallback),
  };
}

function addDecoderStep(step: unknown, spelling: Spelling): void {
  const parsed = decoderSchema.safeParse(step);
  if (!parsed.success) throw new Error("it has no decoder, so token ids cannot become text");
  const { type, decoders } = parsed.data;
  if (type === "Sequence") {
    for (const inner of decoders ?? []) addDecoderStep(inner, spelling);
    return;
  }
  const apply = decoderSteps[type];
  const known = [...Object.keys(decoderSteps), "Sequence"].join(", ");
  if (apply === undefined)
    throw new Error(`its decoder type ${type} is not supported (supported: ${known})`);
  try {
    apply(step, spelling);
  } catch (error) {
    throw new Error(`its ${type} decoder has fields that are not supported`, { cause: error });
  }
}

/**
 * The characters that byte-level vocabularies write bytes as (GPT-2): printable Latin-1 stands for
 * itself, the other bytes follow from U+0100 on.
 */
const characterOfByte: readonly string[] = (() => {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let moved = 0;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(isPrintable(byte) ? byte : 0x100 + moved++),
  );
})();

const byteOfCharacter: ReadonlyMap<string, number> = new Map(
  characterOfByte.map((character, byte) => [character, byte]),
);

/** Bytes as byte-level vocabularies write them. */
export function writeByteLevel(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => characterOfByte[byte]).join("");
}

/** A token with a character that stands for no byte (an added token with a space) is plain text. */
function byteLevelBytes(token: string): Buffer {
  const bytes = Buffer.allocUnsafe(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfCharacter.get(token[i]!);
    if (byte === undefined) return Buffer.from(token);
    bytes[i] = byte;
  }
  return bytes;
}

function plainBytes(
  token: string,
  replacements: readonly [string, string][],
  byteFallback: boolean,
): Buffer {
  if (byteFallback && /^<0x[0-9A-Fa-f]{2}>$/.test(token)) {
    return Buffer.from(token.slice(3, 5), "hex");
  }
  let text = token;
  for (const [from, to] of replacements) text = text.replaceAll(from, to);
  return Buffer.from(text);
}
