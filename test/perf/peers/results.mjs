// What a comparison has measured so far, in a JSON file that is written after every run, and what it comes to.
//
//   node test/perf/peers/results.mjs FILE.json…    prints what files of one set-up come to together

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { median } from "../statistics.mjs";

const differingKeys = (setup, other) =>
  Object.keys(setup).filter((key) => JSON.stringify(setup[key]) !== JSON.stringify(other[key]));

/** `{setup, roofs, runs}`; a run is `{case, length, batch, contender, round, seconds, measures}`. */
export class Results {
  #path;
  #data;

  /** Goes on with a file of the same set-up; refuses one of another. */
  constructor(path, setup) {
    this.#path = path;
    this.#data = { setup, roofs: [], runs: [] };
    if (path === undefined || !existsSync(path)) return;
    const before = JSON.parse(readFileSync(path, "utf8"));
    const differing = differingKeys(setup, before.setup);
    if (differing.length > 0) {
      throw new Error(
        `${path} is of another set-up (${differing.join(", ")}); give another --json, or remove it.`,
      );
    }
    this.#data = before;
  }

  get data() {
    return this.#data;
  }

  runsOf(caseName, contender) {
    return this.#data.runs.filter((run) => run.case === caseName && run.contender === contender);
  }

  addFacts(contender, facts) {
    this.#data.facts = { ...this.#data.facts, [contender]: facts };
    this.#save();
  }

  addRoof(roof) {
    this.#data.roofs.push(roof);
    this.#save();
  }

  addRun(run) {
    this.#data.runs.push(run);
    this.#save();
  }

  addParity(parity) {
    this.#data.parity = parity;
    this.#save();
  }

  #save() {
    if (this.#path === undefined) return;
    writeFileSync(`${this.#path}.part`, `${JSON.stringify(this.#data, null, 1)}\n`);
    renameSync(`${this.#path}.part`, this.#path);
  }
}

/** Files of several calls as one; refuses those of different set-ups. */
export function mergeFiles(paths) {
  const all = paths.map((path) => JSON.parse(readFileSync(path, "utf8")));
  const [{ setup }] = all;
  for (const [i, { setup: other }] of all.entries()) {
    const differing = differingKeys(setup, other);
    if (differing.length > 0) {
      throw new Error(
        `${paths[i]} is of another set-up than ${paths[0]} (${differing.join(", ")})`,
      );
    }
  }
  return {
    setup,
    facts: Object.assign({}, ...all.map(({ facts }) => facts)),
    parity: all.find(({ parity }) => parity !== undefined)?.parity,
    roofs: all.flatMap(({ roofs }) => roofs),
    runs: all.flatMap(({ runs }) => runs),
  };
}

/**
 * Medians over the rounds: `{case, length, batch, name, metric, ms, leastMs, mostMs, rounds}`, in the order of
 * their first runs.
 */
export function summarize({ runs }) {
  const groups = new Map();
  for (const run of runs) {
    for (const { name, metric, ms } of run.measures) {
      const key = `${run.case} ${name} ${metric}`;
      const { case: caseName, length, batch } = run;
      const group = groups.get(key) ?? { case: caseName, length, batch, name, metric, all: [] };
      group.all.push(ms);
      groups.set(key, group);
    }
  }
  return [...groups.values()].map(({ all, ...rest }) => ({
    ...rest,
    ms: median(all),
    leastMs: Math.min(...all),
    mostMs: Math.max(...all),
    rounds: all.length,
  }));
}

/** The fastest of llama.cpp's settings in a case, or of those whose name has `part`; null if none ran. */
export function bestPeer(rows, caseName, metric, part = "llama.cpp") {
  const peers = rows.filter(
    (row) => row.case === caseName && row.metric === metric && row.name.includes(part),
  );
  return peers.sort((a, b) => a.ms - b.ms)[0] ?? null;
}

/** How many times as fast ucm is as llama.cpp's best setting, and in decode as its best with Q8_0. */
export function ratios(rows) {
  return rows
    .filter(({ name }) => name.startsWith("ucm"))
    .flatMap((row) => {
      const parts = row.metric === "decode" ? ["Q8_0", "llama.cpp"] : ["llama.cpp"];
      return parts.flatMap((part) => {
        const peer = bestPeer(rows, row.case, row.metric, part);
        if (peer === null) return [];
        const { case: caseName, name, metric } = row;
        return [{ case: caseName, name, metric, peer: peer.name, ratio: peer.ms / row.ms }];
      });
    })
    .filter(
      (it, i, all) => all.findIndex((other) => JSON.stringify(other) === JSON.stringify(it)) === i,
    );
}

/** Medians of the roofs of a run: threads, and all rates. */
export function medianRoof({ roofs }) {
  const keys = Object.keys(roofs[0] ?? {}).filter((key) => key !== "isa");
  return Object.fromEntries(keys.map((key) => [key, median(roofs.map((roof) => roof[key]))]));
}

function describeRow({ batch, name, metric, ms, leastMs, mostMs, rounds }) {
  const label = `  ${name.padEnd(24)} ${metric.padEnd(7)}`;
  if (metric === "ttft") {
    return `${label} ${ms.toFixed(0).padStart(8)} ms      (${leastMs.toFixed(0)} to ${mostMs.toFixed(0)}, ${rounds} rounds)`;
  }
  const speed = (milliseconds) => ((1000 * batch) / milliseconds).toFixed(1);
  return `${label} ${speed(ms).padStart(8)} tok/s   (${speed(mostMs)} to ${speed(leastMs)}, ${rounds} rounds)`;
}

/** What ran, and what it ran on. */
function describeSetup({ setup: { processor, threads, node, onnxruntime }, facts = {} }) {
  const peer = Object.values(facts).find((it) => "nodeLlamaCpp" in it);
  const peerText = peer
    ? `, node-llama-cpp ${peer.nodeLlamaCpp} (llama.cpp ${peer.release}, ${peer.backend})`
    : "";
  return `Qwen2.5-0.5B shape, random weights; ${processor}, ${threads} threads, node ${node}, ONNX Runtime ${onnxruntime}${peerText}`;
}

/** The figures for people: the set-up, every setting, then the ratios, then the roof. */
export function describe(data) {
  const rows = summarize(data);
  const ratioRows = ratios(rows);
  const cases = [...new Set(rows.map((row) => row.case))];
  const lines = cases.flatMap((name) => [
    `${name} tokens of prompt`,
    ...rows.filter((row) => row.case === name).map(describeRow),
    ...ratioRows
      .filter((row) => row.case === name)
      .map((row) => `  ${row.name} ${row.metric}: ${row.ratio.toFixed(2)}x ${row.peer}`),
  ]);
  if (data.parity !== undefined) {
    const { numTokens, sameGreedy, greatestDifference } = data.parity;
    lines.push(
      `same model: ucm's int8 and llama.cpp's Q8_0 give the same greedy token at ${sameGreedy} of ${numTokens} positions, log-probabilities differ by ${greatestDifference.toFixed(3)} at most`,
    );
  }
  const roof = medianRoof(data);
  const giga = (key) => (roof[key] / 1e9).toFixed(1);
  const roofs = Object.keys(roof).filter((key) => key !== "threads");
  lines.push(
    `roof, median of ${data.roofs.length} in the same run, ${roof.threads} threads: ${roofs
      .map((key) => `${key.replace(/PerS$/, "")} ${giga(key)} G/s`)
      .join(", ")}`,
  );
  return [describeSetup(data), ...lines].join("\n");
}

if (process.argv[1] === import.meta.filename) {
  const paths = process.argv.slice(2);
  if (paths.length === 0) {
    console.error("usage: node test/perf/peers/results.mjs FILE.json…");
    process.exit(2);
  }
  console.log(describe(mergeFiles(paths)));
}
