const binary: Readonly<Record<string, number>> = {
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
  P: 2 ** 50,
};
const decimal: Readonly<Record<string, number>> = { k: 1e3, m: 1e6, g: 1e9, t: 1e12, p: 1e15 };

/**
 * Bytes of a size as people write it: 1073741824, 10G = 10GiB = 2^30 * 10, 10g = 10GB = 10^10, 1.5T.
 * Null for what is none.
 */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([kKmMgGtTpP]?)(i?B)?$/.exec(text.trim());
  if (match === null) return null;
  const [, digits = "", unit = "", bytes = ""] = match;
  if (unit === "") return bytes === "iB" || digits.includes(".") ? null : Number(digits);
  const isDecimal = bytes === "B" || (bytes === "" && unit === unit.toLowerCase());
  const factor = isDecimal ? decimal[unit.toLowerCase()] : binary[unit.toUpperCase()];
  const value = Math.round(Number(digits) * factor!);
  return Number.isSafeInteger(value) ? value : null;
}

/** 0 B, 999 B, 1.0 KiB, 12.3 GiB. */
export function formatSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

const secondsOf: Readonly<Record<string, number>> = {
  s: 1,
  m: 60,
  h: 3_600,
  d: 86_400,
  w: 604_800,
};

/** Milliseconds of 90s, 30m, 12h, 7d, 2w, or several in a row as 1h30m. Null for what is none. */
export function parseDuration(text: string): number | null {
  const parts = text.trim().match(/\d+(?:\.\d+)?[smhdw]/g);
  if (parts === null || parts.join("") !== text.trim()) return null;
  const seconds = parts.reduce(
    (sum, part) => sum + Number(part.slice(0, -1)) * secondsOf[part.at(-1)!]!,
    0,
  );
  return Math.round(seconds * 1000);
}

/** The two greatest units: 4s, 12m 5s, 3h, 8d 2h; `now` below a second and for clocks that differ. */
export function formatAge(ms: number): string {
  let seconds = Math.floor(ms / 1000);
  if (seconds < 1) return "now";
  const parts: string[] = [];
  for (const unit of ["d", "h", "m", "s"]) {
    const size = secondsOf[unit]!;
    if (seconds >= size || parts.length > 0) parts.push(`${Math.floor(seconds / size)}${unit}`);
    seconds %= size;
  }
  return parts
    .slice(0, 2)
    .filter((part) => !part.startsWith("0"))
    .join(" ");
}
