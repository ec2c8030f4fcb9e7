import { beforeEach, describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../../src/tokenizer/index.js";
import { cpuMsOf } from "../../helpers/cpu-time.js";
import {
  byteLevel,
  characterOfByte,
  explainMissingQwen,
  llama2Like,
  llama3Like,
  qwenFolder,
  randomIntegers,
  tokenizerFolder,
} from "./fixtures.js";

const byteOf = new Map(characterOfByte.map((character, byte) => [character, byte]));

/** Bytes of tokens by the book: byte-level characters, or ▁ and <0x..>; added tokens as written. */
function bytesOf(
  tokenizer: Tokenizer,
  ids: readonly number[],
  skipSpecialTokens: boolean,
): number[] {
  return ids.flatMap((id) => {
    const token = tokenizer.idToToken(id);
    if (token === null || (skipSpecialTokens && tokenizer.isSpecial(id))) return [];
    const byte = /^<0x(..)>$/.exec(token);
    if (byte !== null) return [Number.parseInt(byte[1]!, 16)];
    const bytes = Array.from(token, (character) => byteOf.get(character));
    if (token.includes("▁") || bytes.includes(undefined) || tokenizer.idToToken(0) === "<unk>") {
      return [...Buffer.from(token.replaceAll("▁", " "))];
    }
    return bytes as number[];
  });
}

/** The standard's decoder, which replaces each maximal subpart of an invalid sequence. */
function decodeUtf8(bytes: readonly number[]): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

function stream(tokenizer: Tokenizer, prompt: number[], ids: number[], skipSpecialTokens: boolean) {
  const detokenizer = tokenizer.detokenizer(prompt, { skipSpecialTokens });
  const chunks = ids.map((id) => detokenizer.push(id));
  return { chunks, text: chunks.join("") + detokenizer.flush() };
}

/** Random tokens, mostly ones that carry single bytes, so that characters are cut and broken. */
function randomTokens(tokenizer: Tokenizer, random: (below: number) => number): number[] {
  const singleBytes = tokenizer.idToToken(0) === "<unk>" ? 3 : 0;
  const emoji = tokenizer.encode("👩‍👧é好", { addSpecialTokens: false });
  return Array.from({ length: 1 + random(25) }, () => {
    const kind = random(4);
    if (kind === 0) return random(tokenizer.vocabSize + 3);
    if (kind === 1) return emoji[random(emoji.length)]!;
    return singleBytes + random(256);
  });
}

function fuzz(tokenizer: Tokenizer, rounds: number, strip: RegExp): void {
  const random = randomIntegers(7);
  for (let round = 0; round < rounds; round++) {
    const skipSpecialTokens = round % 2 === 0;
    const ids = randomTokens(tokenizer, random);
    const expected = decodeUtf8(bytesOf(tokenizer, ids, skipSpecialTokens)).replace(strip, "");
    expect(tokenizer.decode(ids, { skipSpecialTokens })).toBe(expected);
    const { chunks, text } = stream(tokenizer, [], ids, skipSpecialTokens);
    expect(text).toBe(expected);
    // Whatever is certain after a token has been said by then, and nothing else.
    let said = "";
    chunks.forEach((chunk, i) => {
      said += chunk;
      const soFar = tokenizer.decode(ids.slice(0, i + 1), { skipSpecialTokens });
      if (!soFar.endsWith("\ufffd")) expect(said).toBe(soFar);
      expect(expected.startsWith(said)).toBe(true);
    });
  }
}

describe("streamed text", () => {
  it("equals the text of all tokens, byte-level", async () => {
    fuzz(await loadTokenizer(tokenizerFolder(byteLevel)), 600, /^(?!)/);
    fuzz(await loadTokenizer(tokenizerFolder(llama3Like)), 300, /^(?!)/);
  });

  it("equals the text of all tokens, SentencePiece style", async () => {
    fuzz(await loadTokenizer(tokenizerFolder(llama2Like)), 600, /^ /);
  });

  it("waits for whole characters and not longer", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    const ids = [..."é👍x"].flatMap((c) =>
      [...Buffer.from(c)].map((b) => tokenizer.encode("").length + b),
    );
    const byteIds = ids.map(
      (byte) => (byteLevel.model.vocab as Record<string, number>)[characterOfByte[byte]!]!,
    );
    expect(stream(tokenizer, [], byteIds, true).chunks).toEqual(["", "é", "", "", "", "👍", "x"]);
  });

  it("says what is left of a broken character at the end", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    const ids = [0xf0, 0x9f].map(
      (byte) => (byteLevel.model.vocab as Record<string, number>)[characterOfByte[byte]!]!,
    );
    const detokenizer = tokenizer.detokenizer([], { skipSpecialTokens: true });
    expect(ids.map((id) => detokenizer.push(id))).toEqual(["", ""]);
    expect(detokenizer.flush()).toBe("\ufffd");
    expect(detokenizer.flush()).toBe("");
  });
});

describe("after a prompt", () => {
  it("keeps the space of the first word, and drops it when there is no text before", async () => {
    const tokenizer = await loadTokenizer(
      tokenizerFolder(llama2Like, { bos_token: "<s>", add_bos_token: true }),
    );
    const world = tokenizer.encode("world", { addSpecialTokens: false });
    const prompt = tokenizer.encode("hello");
    expect(stream(tokenizer, prompt, world, true).text).toBe(" world");
    expect(stream(tokenizer, [1], world, true).text).toBe("world");
    expect(stream(tokenizer, [1], world, false).text).toBe(" world");
    expect(stream(tokenizer, [], world, true).text).toBe("world");
  });

  it("completes a character that the prompt began", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    const vocab = byteLevel.model.vocab as Record<string, number>;
    const ids = [...Buffer.from("hello 👍!")].map((byte) => vocab[characterOfByte[byte]!]!);
    for (let cut = 0; cut <= ids.length; cut++) {
      const detokenizer = tokenizer.detokenizer(ids.slice(0, cut), { skipSpecialTokens: true });
      const text =
        ids
          .slice(cut)
          .map((id) => detokenizer.push(id))
          .join("") + detokenizer.flush();
      const complete = tokenizer.decode(ids.slice(0, cut)).replace(/\ufffd$/, "");
      expect(complete + text).toBe(cut === ids.length ? complete : "hello 👍!");
    }
  });
});

describe("Qwen2.5's tokenizer", () => {
  beforeEach(explainMissingQwen);

  it("streams random tokens as it decodes them", async () => {
    const tokenizer = await loadTokenizer(qwenFolder);
    fuzz(tokenizer, 600, /^(?!)/);
  });

  it("streams text in time proportional to its length", async () => {
    const tokenizer = await loadTokenizer(qwenFolder);
    const ids = tokenizer.encode("A line of prose, 中文 and 👩‍👩‍👧‍👦.\n".repeat(5000));
    let text = "";
    const spentMs = cpuMsOf(() => {
      text = stream(tokenizer, ids, ids, true).text;
    });
    expect(text).toBe(tokenizer.decode(ids));
    expect(spentMs / ids.length).toBeLessThan(0.5);
  });
});
