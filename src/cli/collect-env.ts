import { readdirSync, readFileSync } from "node:fs";
import { cpus, freemem, release, totalmem } from "node:os";
import { surveyGpus } from "../config/gpus.js";
import { toGib } from "../config/index.js";
import { inspectMachine } from "../config/machine.js";
import { nativeBuildPath, readDependencyVersion, readVersion } from "./package-files.js";

/** A heading and its lines, each a label and what is known of it. */
interface Section {
  title: string;
  lines: [string, string][];
}

/** `ucm collect-env`: what an error report should tell, in the layout of `vllm collect-env`. */
export async function runCollectEnv(): Promise<number> {
  const sections = [
    system(),
    processor(),
    memory(),
    accelerators(),
    software(),
    environment(process.env),
  ];
  process.stdout.write(`${sections.map(renderSection).join("\n\n")}\n`);
  return 0;
}

function renderSection({ title, lines }: Section): string {
  const rule = "=".repeat(30);
  const width = Math.max(0, ...lines.map(([label]) => label.length)) + 1;
  const head = `${rule}\n${title.padStart((rule.length + title.length) / 2)}\n${rule}`;
  return [head, ...lines.map(([label, text]) => `${label.padEnd(width)}: ${text}`)].join("\n");
}

function system(): Section {
  const os = readText("/etc/os-release").match(/^PRETTY_NAME="?([^"\n]+)/m)?.[1];
  const report = process.report.getReport() as unknown as {
    header?: { glibcVersionRuntime?: string };
  };
  return {
    title: "System Info",
    lines: [
      ["OS", os ?? process.platform],
      ["Kernel", `${release()} ${process.arch}`],
      ["Libc version", report.header?.glibcVersionRuntime ?? "unknown"],
    ],
  };
}

/** Instruction sets that decide which kernels run. */
const instructionSets = [
  "avx2",
  "fma",
  "f16c",
  "avx512f",
  "avx512bw",
  "avx512vl",
  "avx512_vnni",
  "avx512_bf16",
  "amx_int8",
  "amx_bf16",
];

function processor(): Section {
  const info = readText("/proc/cpuinfo");
  const has = new Set(info.match(/^flags\s*:\s*(.*)$/m)?.[1]?.split(" ") ?? []);
  const nodes = readText("/sys/devices/system/node/online").trim();
  return {
    title: "CPU Info",
    lines: [
      ["Model name", cpus()[0]?.model ?? "unknown"],
      ["Logical CPUs", String(cpus().length)],
      ["Usable by this process", String(inspectMachine().cores)],
      ["NUMA nodes", nodes === "" ? "unknown" : nodes],
      ["Instruction sets", instructionSets.filter((name) => has.has(name)).join(" ") || "unknown"],
    ],
  };
}

function memory(): Section {
  const huge = readText("/sys/kernel/mm/transparent_hugepage/enabled");
  return {
    title: "Memory",
    lines: [
      ["Total", `${toGib(totalmem())} GiB`],
      ["Free", `${toGib(freemem())} GiB`],
      ["Left for a model", `${toGib(inspectMachine().availableBytes)} GiB`],
      ["Transparent huge pages", huge.match(/\[(\w+)\]/)?.[1] ?? "unknown"],
    ],
  };
}

function accelerators(): Section {
  const { gpus, source } = surveyGpus();
  return {
    title: "GPU Info (this version computes on the CPU alone)",
    lines: [
      ["Found", gpus.length === 0 ? "none" : gpus.join(", ")],
      ["According to", source],
    ],
  };
}

function software(): Section {
  const packages = ["onnxruntime-node", "@huggingface/tokenizers", "@huggingface/jinja", "fastify"];
  return {
    title: "ucm Info",
    lines: [
      ["ucm version", readVersion()],
      ["Node.js version", process.version],
      ["Native addon", describeNativeBuild()],
      ...packages.map((name): [string, string] => [name, readDependencyVersion(name)]),
    ],
  };
}

function describeNativeBuild(): string {
  const folder = nativeBuildPath();
  try {
    const addons = readdirSync(folder).filter((name) => name.endsWith(".node"));
    if (addons.length > 0) return addons.map((name) => `${folder}${name}`).join(", ");
  } catch {
    // No such folder: nothing was built.
  }
  return "not built; run: npm run build:native";
}

/** Variables that change what ucm does. */
const relevant = /^(UCM|VLLM|HF|ORT|OMP|OPENAI|NODE|PYTHONHASHSEED|NO_COLOR)(_|$)/;
const secret = /KEY|TOKEN|SECRET|PASSWORD/;

function environment(env: NodeJS.ProcessEnv): Section {
  const names = Object.keys(env).filter((name) => relevant.test(name));
  return {
    title: "Environment Variables",
    lines: names.sort().map((name) => [name, secret.test(name) ? "***" : (env[name] ?? "")]),
  };
}

/** A file of the system, empty where there is none. */
function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
