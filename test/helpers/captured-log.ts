import { afterEach, beforeEach } from "vitest";
import { configureLog } from "../../src/log/index.js";

/** Sends the log of every test of the file to memory; the function returned gives its text so far. */
export function captureLog(): () => string {
  let text = "";
  beforeEach(() => {
    text = "";
    configureLog({
      stream: {
        write(more) {
          text += more;
        },
      },
    });
  });
  afterEach(() => configureLog({ stream: process.stdout }));
  return () => text;
}
