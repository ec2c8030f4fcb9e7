// Preloaded into a process with the word `serve` on its command line (NODE_OPTIONS=--import): appends a
// line of JSON a second to the file PROBE_FILE, of what the process needs and how late its event loop
// runs. On SIGUSR2 it collects garbage, writes a line that is `settled`, and starts counting lag anew.
import { appendFileSync, readdirSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { isMainThread } from "node:worker_threads";

const RESOLUTION_MS = 5;

// Workers of the server inherit the environment, and are not meant.
if (process.env.PROBE_FILE && isMainThread && process.argv.includes("serve")) {
  probe(process.env.PROBE_FILE);
}

function probe(file) {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc");
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  const write = (settled) => {
    const { rss, heapUsed, external } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    // The histogram holds times between looks, of which the resolution is no lag.
    const lag = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
    const line = {
      ...{ atMs: Date.now(), settled, rss, heapUsed, external, cpuMs: (user + system) / 1000 },
      descriptors: readdirSync("/proc/self/fd").length,
      lagMs: {
        p50: lag(delay.percentile(50)),
        p99: lag(delay.percentile(99)),
        p999: lag(delay.percentile(99.9)),
        max: lag(delay.max),
      },
      pid: process.pid,
    };
    appendFileSync(file, `${JSON.stringify(line)}\n`);
  };
  setInterval(write, 1000, false).unref();
  process.on("SIGUSR2", async () => {
    for (let i = 0; i < 4; i++) {
      collectGarbage();
      await new Promise((done) => setTimeout(done, 50));
    }
    write(true);
    delay.reset();
  });
}
