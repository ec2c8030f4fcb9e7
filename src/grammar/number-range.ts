/** A bound of a number, and whether the bound itself is out. */
export interface Bound {
  value: number;
  isExclusive: boolean;
}

/**
 * EBNF of the JSON numbers without exponent between two bounds (null: none); null when there are none.
 * For integers bounds are brought to integers first.
 */
export function numberRange(
  low: Bound | null,
  high: Bound | null,
  isInteger: boolean,
): string | null {
  return isInteger
    ? integerRange(low === null ? null : atLeast(low), high === null ? null : atMost(high))
    : decimalRange(low, high);
}

/** The least integer within a lower bound. */
function atLeast({ value, isExclusive }: Bound): number {
  return isExclusive ? Math.floor(value) + 1 : Math.ceil(value);
}

function atMost({ value, isExclusive }: Bound): number {
  return isExclusive ? Math.ceil(value) - 1 : Math.floor(value);
}

function integerRange(low: number | null, high: number | null): string | null {
  const parts: string[] = [];
  // -high … -low, for the numbers below zero.
  if (low === null || low < 0) {
    const from = high === null || high > -1 ? 1 : -high;
    const part = naturals(from, low === null ? null : -low);
    if (part !== null) parts.push(`"-" ${part}`);
  }
  if (high === null || high >= 0) {
    const part = naturals(low === null || low < 0 ? 0 : low, high);
    if (part !== null) parts.push(part);
  }
  return either(parts);
}

/** Integers from `from` to `to`, none of them negative; null as `to` is no limit. */
function naturals(from: number, to: number | null): string | null {
  if (to !== null && from > to) return null;
  const first = digitsOf(from);
  const last = to === null ? "9".repeat(first.length) : digitsOf(to);
  const parts: string[] = [];
  for (let length = first.length; length <= last.length; length++) {
    const begin = length === first.length ? first : `1${"0".repeat(length - 1)}`;
    const end = length === last.length ? last : "9".repeat(length);
    parts.push(sameLength(begin, end));
  }
  if (to === null) parts.push(`[1-9] ${repeat(first.length, null)}`);
  return either(parts);
}

function digitsOf(value: number): string {
  return BigInt(value).toString();
}

/** Digit strings from `begin` to `end`, which are equally long. */
function sameLength(begin: string, end: string): string {
  if (begin === "") return '""';
  if (/^0*$/.test(begin) && /^9*$/.test(end)) return repeat(begin.length, begin.length);
  const [first = "", last = ""] = [begin[0], end[0]];
  const [tail, endTail] = [begin.slice(1), end.slice(1)];
  if (first === last) return `"${first}" ${sameLength(tail, endTail)}`;
  const middle = digitRange(Number(first) + 1, Number(last) - 1);
  return either([
    `"${first}" ${sameLength(tail, "9".repeat(tail.length))}`,
    ...(middle === null ? [] : [`${middle} ${repeat(tail.length, tail.length)}`]),
    `"${last}" ${sameLength("0".repeat(endTail.length), endTail)}`,
  ])!;
}

function decimalRange(low: Bound | null, high: Bound | null): string | null {
  const parts: string[] = [];
  const isBelowZero = (bound: Bound | null) => bound !== null && bound.value < 0;
  if (low === null || isBelowZero(low)) {
    const negative = magnitudes(
      isBelowZero(high) ? negate(high!) : { value: 0, isExclusive: true },
      low === null ? null : negate(low),
    );
    if (negative !== null) parts.push(`"-" ${negative}`);
  }
  if (!isBelowZero(high)) {
    const from = low === null || isBelowZero(low) ? { value: 0, isExclusive: false } : low;
    const positive = magnitudes(from, high);
    if (positive !== null) parts.push(positive);
  }
  return either(parts);
}

function negate({ value, isExclusive }: Bound): Bound {
  return { value: -value, isExclusive };
}

/** Decimals from `low` to `high`, none of them negative. */
function magnitudes(low: Bound, high: Bound | null): string | null {
  const [whole, fraction] = split(low.value);
  const from = Number(whole);
  const above = high === null ? null : split(high.value);
  const parts: (string | null)[] = [];
  if (above !== null && above[0] === whole) {
    const between = fractionBetween(
      { digits: fraction, isExclusive: low.isExclusive },
      { digits: above[1], isExclusive: high!.isExclusive },
    );
    return between === null ? null : `"${whole}" ${between}`;
  }
  const to = above === null ? null : Number(above[0]);
  if (to !== null && to < from) return null;
  parts.push(`"${whole}" ${fractionFrom(fraction, low.isExclusive)}`);
  const middle = naturals(from + 1, to === null ? null : to - 1);
  if (middle !== null) parts.push(`${middle} ("." [0-9]+)?`);
  if (above !== null) {
    const below = fractionTo(above[1], high!.isExclusive);
    if (below !== null) parts.push(`"${above[0]}" ${below}`);
  }
  return either(parts.filter((part) => part !== null));
}

interface FractionBound {
  /** Digits after the point, without zeros at the end. */
  digits: string;
  isExclusive: boolean;
}

/** Whole part and the digits after the point. */
function split(value: number): [whole: string, fraction: string] {
  const text = String(value).includes("e") ? value.toFixed(20) : String(value);
  const [whole = "0", fraction = ""] = text.split(".");
  return [/^\d+$/.test(whole) ? whole : digitsOf(Math.trunc(value)), fraction.replace(/0+$/, "")];
}

const anyDigits = "[0-9]*";
const someNonZero = "[0-9]* [1-9] [0-9]*";

/** What may follow a whole part so that the fraction is at least 0.`digits`. */
function fractionFrom(digits: string, isExclusive: boolean): string {
  if (digits !== "") return `"." ${digitsFrom(digits, isExclusive)}`;
  return isExclusive ? `"." ${someNonZero}` : `("." [0-9]+)?`;
}

function digitsFrom(digits: string, isExclusive: boolean): string {
  if (digits === "") return isExclusive ? someNonZero : anyDigits;
  const first = Number(digits[0]);
  const above = digitRange(first + 1, 9);
  const same = `"${first}" ${digitsFrom(digits.slice(1), isExclusive)}`;
  return either([same, ...(above === null ? [] : [`${above} ${anyDigits}`])])!;
}

/** What may follow a whole part so that the fraction is at most 0.`digits`; null when nothing may. */
function fractionTo(digits: string, isExclusive: boolean): string | null {
  if (digits !== "") return `("." ${digitsTo(digits, isExclusive)})?`;
  return isExclusive ? null : `("." [0]+)?`;
}

/** At least one digit. */
function digitsTo(digits: string, isExclusive: boolean): string {
  const first = Number(digits[0]);
  const rest = digits.slice(1);
  const below = digitRange(0, first - 1);
  const parts = below === null ? [] : [`${below} ${anyDigits}`];
  if (rest !== "") parts.push(`"${first}" (${digitsTo(rest, isExclusive)})?`);
  else if (!isExclusive) parts.push(`"${first}" [0]*`);
  return either(parts)!;
}

/** What may follow the one whole part that two bounds share; null when nothing may. */
function fractionBetween(low: FractionBound, high: FractionBound): string | null {
  if (low.digits === "" && !low.isExclusive) return fractionTo(high.digits, high.isExclusive);
  const length = Math.max(low.digits.length, high.digits.length);
  const [begin, end] = [low.digits.padEnd(length, "0"), high.digits.padEnd(length, "0")];
  if (begin > end) return null;
  if (begin === end) {
    return low.isExclusive || high.isExclusive ? null : `"." "${begin}" [0]*`;
  }
  let place = 0;
  while (begin[place] === end[place]) place++;
  const shared = begin.slice(0, place);
  const [first, last] = [Number(begin[place]), Number(end[place])];
  const middle = digitRange(first + 1, last - 1);
  const rest = high.digits.slice(place + 1);
  const parts = [`"${first}" ${digitsFrom(low.digits.slice(place + 1), low.isExclusive)}`];
  if (middle !== null) parts.push(`${middle} ${anyDigits}`);
  if (rest !== "") parts.push(`"${last}" (${digitsTo(rest, high.isExclusive)})?`);
  else if (!high.isExclusive) parts.push(`"${last}" [0]*`);
  return `"." ${shared === "" ? "" : `"${shared}" `}${either(parts)}`;
}

function digitRange(from: number, to: number): string | null {
  return from > to ? null : `[${from}-${to}]`;
}

function repeat(min: number, max: number | null): string {
  return max === 0 ? '""' : `[0-9]{${min},${max ?? ""}}`;
}

function either(parts: readonly string[]): string | null {
  if (parts.length < 2) return parts[0] ?? null;
  return `(${parts.join(" | ")})`;
}
