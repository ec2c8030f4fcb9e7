const decimalSuffixes: Readonly<Record<string, number>> = { k: 1e3, m: 1e6, g: 1e9, t: 1e12 };
const binarySuffixes: Readonly<Record<string, number>> = {
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/**
 * vLLM's human-readable integers: 1k = 1000, 25.6k = 25600, 1K = 1024. Binary suffixes take no
 * decimals. Returns the number, or the text of what is wrong.
 */
export function parseHumanInt(text: string): number | string {
  const match = /^\s*([+-]?\d+(?:\.\d+)?)([kKmMgGtT]?)\s*$/.exec(text);
  const problem = `invalid int value: '${text}'`;
  if (match === null) return problem;
  const [, digits = "", suffix = ""] = match;
  const binary = binarySuffixes[suffix];
  if (binary !== undefined && digits.includes(".")) {
    const lower = `${digits}${suffix.toLowerCase()}`;
    return `Decimals are not allowed with binary suffixes like ${suffix}. Did you mean to use ${lower} instead?`;
  }
  if (suffix === "" && digits.includes(".")) return problem;
  // Rounded: 25.6 * 1000 is not exact in binary.
  const value = Math.round(Number(digits) * (binary ?? decimalSuffixes[suffix] ?? 1));
  return Number.isSafeInteger(value) ? value : problem;
}
