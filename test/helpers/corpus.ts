import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const folder = resolve(import.meta.dirname, "../../../shared/corpus");

/** Books that the demo model never saw in training. */
const heldOut = ["pg11", "pg12", "pg16", "pg55"];

/** Why tests over the held-out books cannot run here, or null when they can. */
export const corpusMissing = heldOut.every((book) => existsSync(join(folder, `${book}.txt`)))
  ? null
  : `the held-out books are not at ${folder}`;

/** The held-out books as running text: line breaks unwrapped, quotes in ASCII, as in training. */
export function heldOutBooks(): string[] {
  return heldOut.map((book) => clean(readFileSync(join(folder, `${book}.txt`), "utf8")));
}

function clean(text: string): string {
  return text
    .replace(/[“”]/g, '"')
    .replace(/[‘’]/g, "'")
    .replace(/—/g, "--")
    .replace(/\u00a0/g, " ")
    .replace(/_/g, "")
    .replace(/^Produced by .*$/m, "")
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.split(/\s+/).filter(Boolean).join(" "))
    .filter(Boolean)
    .join("\n\n");
}

/** A seeded generator of uniforms in [0, 1): mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
