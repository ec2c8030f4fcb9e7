import { SingleBar } from "cli-progress";
import type { ProgressMessage } from "../messages/index.js";

/** A bar on a terminal, silence anywhere else. */
export interface ProgressBar {
  update(done: number, total: number, text: string): void;
  stop(): void;
}

/** Draws on standard error, and only if that is a terminal and `wanted`. */
export function createProgressBar(wanted: boolean): ProgressBar {
  if (!wanted || !process.stderr.isTTY) return { update: () => {}, stop: () => {} };
  const bar = new SingleBar({
    format: "{text} |{bar}| {value}/{total}",
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
  });
  let isDrawn = false;
  return {
    update(done, total, text) {
      if (!isDrawn) bar.start(total, done, { text });
      isDrawn = true;
      bar.setTotal(total);
      bar.update(done, { text });
    },
    stop() {
      if (isDrawn) bar.stop();
      isDrawn = false;
    },
  };
}

/** Shows the loading of the weights; `stop` clears the line. */
export function showLoadProgress(wanted: boolean) {
  const bar = createProgressBar(wanted);
  return {
    onProgress: ({ phase, done, total }: ProgressMessage) => bar.update(done, total, phase),
    stop: () => bar.stop(),
  };
}
