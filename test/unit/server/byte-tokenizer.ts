import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { loadTokenizer, type Tokenizer } from "../../../src/tokenizer/index.js";

/** Ids after the 256 bytes, whose ids are their values. */
export const specialIds = { endOfText: 256, imStart: 257, imEnd: 258 } as const;

/** Ids of the model's padded vocabulary: more than the tokenizer knows. */
export const vocabSize = 300;

const chatTemplate =
  "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}" +
  "{% if add_generation_prompt %}<|im_start|>assistant\n{{ mood }}{% endif %}";

/** A byte-level BPE tokenizer without merges, as files of a model folder and loaded from them. */
export async function loadByteTokenizer(): Promise<Tokenizer> {
  const folder = await mkdtemp(path.join(tmpdir(), "ucm-tokenizer-"));
  const vocab = Object.fromEntries(byteCharacters().map((character, byte) => [character, byte]));
  const special = (id: number, content: string) => ({ id, content, special: true });
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  await writeFile(
    path.join(folder, "tokenizer.json"),
    JSON.stringify({
      model: { type: "BPE", vocab, merges: [] },
      added_tokens: [
        special(specialIds.endOfText, "<|endoftext|>"),
        special(specialIds.imStart, "<|im_start|>"),
        special(specialIds.imEnd, "<|im_end|>"),
      ],
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
    }),
  );
  await writeFile(
    path.join(folder, "tokenizer_config.json"),
    JSON.stringify({ eos_token: "<|im_end|>", chat_template: chatTemplate }),
  );
  const tokenizer = await loadTokenizer(folder);
  await rm(folder, { recursive: true });
  return tokenizer;
}

/** GPT-2's printable character of every byte, in the order of bytes. */
function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCodePoint(isPrintable ? byte : next++);
  });
}
