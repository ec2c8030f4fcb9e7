import type { StoreReport, StoreTransfer } from "../messages/index.js";
import type { KvStore } from "../native/index.js";

/** Between two reports, while something happens. */
const INTERVAL_MS = 1_000;
/** Numbers per transfer in what the native store gives. */
const WIDTH = 3;

/** What a store counts, as of now; transfers are told once. */
export function reportOf(store: KvStore, bytesPerBlock: number): StoreReport {
  const numbers = store.takeTransfers();
  const transfers: StoreTransfer[] = [];
  for (let i = 0; i < numbers.length; i += WIDTH) {
    transfers.push({
      kind: numbers[i] === 0 ? "load" : "save",
      blocks: numbers[i + 1]!,
      durationMs: numbers[i + 2]! / 1000,
    });
  }
  const tiers = store.stats() as unknown as StoreReport["tiers"];
  return { tiers: { ...tiers }, bytesPerBlock, transfers };
}

/**
 * Sends a report once a second, if it says something new: between steps, as a step keeps this thread
 * busy, and when there are none, as writing goes on after the last. The first comes at once.
 */
export function startReports(
  take: () => StoreReport | null,
  send: (report: StoreReport) => void,
): () => void {
  let last = "";
  const report = () => {
    const now = take();
    if (now === null) return;
    const counts = JSON.stringify(now.tiers);
    if (counts === last && now.transfers.length === 0) return;
    last = counts;
    send(now);
  };
  report();
  const timer = setInterval(report, INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
