import { quoteInJson, quoteLiteral } from "./ebnf.js";
import { GrammarError } from "./grammar-errors.js";
import {
  anyButLineEnds,
  type CharacterSet,
  negate,
  setOf,
  shorthand,
  union,
  writeSet,
} from "./regex-classes.js";

const HALF_PAIR = /\p{Surrogate}/u;
/** Groups within groups. */
const MAX_DEPTH = 50;

/**
 * EBNF of the texts that match a regular expression as a whole. With `inJson` they are written as
 * within a JSON string: xgrammar's own reading lets a quote or a line break through as it is, and takes
 * classes of characters beyond ASCII for bytes.
 * @throws GrammarError for what is no regular expression or cannot be followed.
 */
export function regexGrammar(pattern: string, inJson: boolean): string {
  return new RegexReader(pattern, inJson).read();
}

class RegexReader {
  readonly #characters: readonly string[];
  readonly #inJson: boolean;
  #at = 0;
  #depth = 0;

  constructor(pattern: string, inJson: boolean) {
    if (HALF_PAIR.test(pattern)) throw new GrammarError("the pattern has half of a surrogate pair");
    this.#characters = [...pattern];
    this.#inJson = inJson;
  }

  read(): string {
    const text = this.#alternatives();
    if (this.#at < this.#characters.length) throw this.#error("The parenthesis is not opened");
    return text;
  }

  get #next(): string | undefined {
    return this.#characters[this.#at];
  }

  #take(): string {
    const character = this.#characters[this.#at++];
    if (character === undefined) throw this.#error("The pattern ends too early");
    return character;
  }

  #skip(text: string): boolean {
    const isThere = this.#characters.slice(this.#at, this.#at + text.length).join("") === text;
    if (isThere) this.#at += text.length;
    return isThere;
  }

  #error(problem: string): GrammarError {
    return new GrammarError(`Regex parsing error at position ${this.#at + 1}: ${problem}.`);
  }

  #alternatives(): string {
    const parts = [this.#sequence()];
    while (this.#skip("|")) parts.push(this.#sequence());
    return `(${parts.join(" | ")})`;
  }

  /** Anchors say nothing where the whole text is matched, which is at both ends of it. */
  #sequence(): string {
    if (this.#depth === 0) this.#skip("^");
    const parts: string[] = [];
    for (;;) {
      const next = this.#next;
      if (next === undefined || next === "|" || next === ")") break;
      if (next === "$" && this.#depth === 0) {
        this.#at++;
        if (this.#next !== undefined && this.#next !== "|") {
          throw this.#error("An anchor is only supported at the begin or the end");
        }
        break;
      }
      const atom = this.#atom();
      parts.push(atom + this.#quantifier());
    }
    return parts.length === 0 ? '""' : parts.join(" ");
  }

  #atom(): string {
    const character = this.#take();
    switch (character) {
      case "(":
        return this.#group();
      case "[":
        return this.#write(this.#class());
      case ".":
        return this.#write(anyButLineEnds);
      case "\\":
        return this.#write(this.#escape(false));
      case "^":
      case "$":
        throw this.#error("An anchor is only supported at the begin or the end");
      case "*":
      case "+":
      case "?":
        throw this.#error("There is nothing to repeat");
      default:
        return (this.#inJson ? quoteInJson : quoteLiteral)(character);
    }
  }

  #write(set: CharacterSet): string {
    return writeSet(set, this.#inJson);
  }

  #group(): string {
    if (++this.#depth > MAX_DEPTH) throw this.#error("It is nested too deeply");
    if (this.#skip("?")) this.#groupKind();
    const text = this.#alternatives();
    if (!this.#skip(")")) throw this.#error("The parenthesis is not closed");
    this.#depth--;
    return text;
  }

  #groupKind(): void {
    if (this.#skip(":")) return;
    if (this.#skip("=") || this.#skip("!") || this.#skip("<=") || this.#skip("<!")) {
      throw this.#error("Lookahead is not supported");
    }
    this.#skip("P");
    if (!this.#skip("<")) throw this.#error("Unknown kind of group");
    while (this.#take() !== ">");
  }

  #quantifier(): string {
    const next = this.#next;
    let text = "";
    if (next === "*" || next === "+" || next === "?") text = this.#take();
    else if (next === "{") text = this.#bounds();
    // A lazy one matches the same texts.
    if (text !== "") this.#skip("?");
    if (text !== "" && this.#next !== undefined && "*+?{".includes(this.#next)) {
      throw this.#error("Two quantifiers one after the other");
    }
    return text;
  }

  #bounds(): string {
    const rest = this.#characters.slice(this.#at, this.#at + 24).join("");
    const [whole, low = "", comma, high = ""] = /^\{(\d{1,6})(,)?(\d{1,6})?\}/.exec(rest) ?? [];
    if (whole === undefined) throw this.#error("Bad bounds of a repetition");
    if (high !== "" && Number(high) < Number(low)) throw this.#error("Bounds that cross");
    this.#at += whole.length;
    return `{${low},${comma === undefined ? low : high}}`;
  }

  #class(): CharacterSet {
    const isNegated = this.#skip("^");
    const sets: CharacterSet[] = [];
    while (!this.#skip("]")) sets.push(this.#classItem());
    const set = union(sets);
    return isNegated ? negate(set) : set;
  }

  /** A character, a range of them, or a shorthand. */
  #classItem(): CharacterSet {
    const first = this.#classCharacter();
    if (this.#next !== "-" || this.#characters[this.#at + 1] === "]") return first;
    this.#at++;
    const [from, to] = [onlyPoint(first), onlyPoint(this.#classCharacter())];
    if (from === null || to === null || from > to) throw this.#error("Bad range in a class");
    if (to - from > 0x20000) throw this.#error("A class of too many characters");
    const points = Array.from({ length: to - from + 1 }, (_, i) => from + i);
    return setOf(points);
  }

  #classCharacter(): CharacterSet {
    const character = this.#take();
    return character === "\\" ? this.#escape(true) : setOf([character.codePointAt(0)!]);
  }

  #escape(inClass: boolean): CharacterSet {
    const letter = this.#take();
    const known = shorthand(letter);
    if (known !== null) return known;
    if (Object.hasOwn(controls, letter)) return setOf([controls[letter]!]);
    if (letter === "b" && inClass) return setOf([8]);
    if (letter === "x") return setOf([this.#hexadecimal(2)]);
    if (letter === "u") return setOf([this.#hexadecimal(4)]);
    if (/[a-zA-Z0-9]/.test(letter)) throw this.#error(`\\${letter} is not supported`);
    return setOf([letter.codePointAt(0)!]);
  }

  #hexadecimal(length: number): number {
    const text = this.#characters.slice(this.#at, this.#at + length).join("");
    if (!/^[0-9a-fA-F]+$/.test(text) || text.length !== length) throw this.#error("Bad escape");
    this.#at += length;
    const point = Number.parseInt(text, 16);
    if (point >= 0xd800 && point <= 0xdfff) throw this.#error("Half of a surrogate pair");
    return point;
  }
}

const controls: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, v: 11, f: 12, "0": 0 };

function onlyPoint({ ascii, beyond }: CharacterSet): number | null {
  const points = [...ascii, ...(beyond === "all" ? [] : beyond)];
  return points.length === 1 ? points[0]! : null;
}
