/**
 * Buffers that weights pass through on their way into a session. Layers have the same shapes, so the
 * buffers of one serve the next, and loading needs memory for one layer instead of all.
 */
export interface Scratch {
  /** An uninitialised buffer of at least `bytes`, valid until reset. */
  take(bytes: number): ArrayBuffer;
  /** Takes every buffer back. */
  reset(): void;
}

export function createScratch(): Scratch {
  let free: ArrayBuffer[] = [];
  let taken: ArrayBuffer[] = [];
  return {
    take(bytes) {
      const fitting = free.filter((buffer) => buffer.byteLength >= bytes);
      const best = fitting.reduce<ArrayBuffer | null>(
        (a, b) => (a === null || b.byteLength < a.byteLength ? b : a),
        null,
      );
      free = free.filter((buffer) => buffer !== best);
      const buffer = best ?? new ArrayBuffer(bytes);
      taken.push(buffer);
      return buffer;
    },
    reset() {
      free = [...free, ...taken];
      taken = [];
    },
  };
}
