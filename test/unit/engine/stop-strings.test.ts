import { describe, expect, it } from "vitest";
import { StopStringMatcher } from "../../../src/engine/stop-strings.js";
import { seededRandom } from "../scheduler/random-workload.js";

function feed(
  matcher: StopStringMatcher,
  pieces: string[],
): { sent: string[]; stop: string | null } {
  const sent: string[] = [];
  for (const piece of pieces) {
    const { text, stop } = matcher.push(piece, true);
    sent.push(text);
    if (stop !== null) return { sent, stop };
  }
  sent.push(matcher.flush());
  return { sent, stop: null };
}

describe("StopStringMatcher", () => {
  it("lets everything through without stop strings", () => {
    expect(feed(new StopStringMatcher([], false), ["a", "", "bc"])).toEqual({
      sent: ["a", "", "bc", ""],
      stop: null,
    });
  });

  it("holds back as many characters as could begin a stop string, and sends them at the end", () => {
    expect(feed(new StopStringMatcher(["12345"], false), ["abc", "def", "g"])).toEqual({
      sent: ["", "ab", "c", "defg"],
      stop: null,
    });
  });

  it("finds a stop string across pieces and cuts before it", () => {
    expect(feed(new StopStringMatcher(["END"], false), ["say E", "N", "D now"])).toEqual({
      sent: ["say", " ", ""],
      stop: "END",
    });
  });

  it("includes the stop string when asked, holding back nothing", () => {
    expect(feed(new StopStringMatcher(["END"], true), ["say E", "N", "D now"])).toEqual({
      sent: ["say E", "N", "D"],
      stop: "END",
    });
  });

  it("takes the earliest match, then the first listed", () => {
    expect(feed(new StopStringMatcher(["c", "b"], false), ["abc"])).toEqual({
      sent: ["a"],
      stop: "b",
    });
    expect(feed(new StopStringMatcher(["bc", "b"], false), ["abc"])).toEqual({
      sent: ["a"],
      stop: "bc",
    });
  });

  it("does not find what lies wholly in text that may not stop", () => {
    const matcher = new StopStringMatcher(["ab"], false);
    expect(matcher.push("abxa", false)).toEqual({ text: "abx", stop: null });
    expect(matcher.push("", true)).toEqual({ text: "", stop: null });
    expect(matcher.push("b!", true)).toEqual({ text: "", stop: "ab" });
  });

  it("never sends half of a surrogate pair", () => {
    const { sent, stop } = feed(new StopStringMatcher(["xy"], false), ["a🙂", "🙃", "b"]);
    expect({ text: sent.join(""), stop }).toEqual({ text: "a🙂🙃b", stop: null });
    expect(sent).toEqual(["a", "🙂", "🙃", "b"]);
  });

  it.each([true, false])("agrees with a search of the whole text, included %s", (include) => {
    const random = seededRandom(11);
    const word = (low: number, high: number) =>
      Array.from({ length: random(low, high) }, () => ["a", "b", "🙂"][random(0, 2)]).join("");
    for (let trial = 0; trial < 3000; trial++) {
      const stops = Array.from({ length: random(1, 3) }, () => word(1, 5));
      const pieces = Array.from({ length: random(1, 12) }, () => word(0, 3));
      const { sent, stop } = feed(new StopStringMatcher(stops, include), pieces);
      // The text as it stood when the first piece completed a stop string.
      let text = "";
      let found: { start: number; stop: string } | undefined;
      for (const piece of pieces) {
        text += piece;
        found = stops
          .map((candidate) => ({ start: text.indexOf(candidate), stop: candidate }))
          .filter(({ start }) => start !== -1)
          .reduce<typeof found>(
            (a, b) => (a !== undefined && a.start <= b.start ? a : b),
            undefined,
          );
        if (found !== undefined) break;
      }
      const end =
        found === undefined ? text.length : found.start + (include ? found.stop.length : 0);
      expect({ text: sent.join(""), stop }).toEqual({
        text: text.slice(0, end),
        stop: found?.stop ?? null,
      });
    }
  });
});
