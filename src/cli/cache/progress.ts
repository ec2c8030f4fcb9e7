import type { ToolProgress } from "../../cache-tool/index.js";
import { createProgressBar } from "../load-progress.js";
import { formatSize } from "./units.js";

/** Between two lines where there is no terminal. */
const LINE_MS = 5_000;

/** A bar on a terminal, else a line now and then on standard error; nothing unless `wanted`. */
export function showToolProgress(wanted: boolean) {
  const bar = createProgressBar(wanted);
  let lineMs = performance.now();
  return {
    update({ done, total, bytes }: ToolProgress): void {
      bar.update(done, total, formatSize(bytes));
      const nowMs = performance.now();
      if (!wanted || process.stderr.isTTY || nowMs - lineMs < LINE_MS) return;
      lineMs = nowMs;
      process.stderr.write(`${done} of ${total} blocks, ${formatSize(bytes)}\n`);
    },
    stop: () => bar.stop(),
  };
}
