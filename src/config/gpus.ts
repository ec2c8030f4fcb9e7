import { readdirSync, readFileSync } from "node:fs";
import { execaSync } from "execa";

/** What can be learnt of a machine's NVIDIA GPUs. */
export interface GpuSurvey {
  /** Of each GPU index, name and memory as far as known. */
  gpus: readonly string[];
  /** Who told, or why nobody did. */
  source: string;
}

/** A driver that hangs must not hold up an error message. */
const ANSWER_TIMEOUT_MS = 5_000;

const DRIVER_FOLDER = "/proc/driver/nvidia/gpus";

/** Asks the driver's tool, which sees what this process may use; without it, the kernel's list. */
export function surveyGpus(env: NodeJS.ProcessEnv = process.env): GpuSurvey {
  const { failed, code, timedOut, stdout, stderr } = execaSync(
    "nvidia-smi",
    ["--query-gpu=index,name,memory.total", "--format=csv,noheader"],
    { env, extendEnv: false, reject: false, timeout: ANSWER_TIMEOUT_MS, stdin: "ignore" },
  );
  if (!failed)
    return { gpus: stdout.split("\n").filter(isText).map(describe), source: "nvidia-smi" };
  const reason = timedOut
    ? `did not answer within ${ANSWER_TIMEOUT_MS / 1000} s`
    : code === "ENOENT"
      ? "is not on PATH"
      : `says: ${[...stdout.split("\n"), ...stderr.split("\n")].find(isText) ?? "nothing"}`;
  return listOfKernel(`nvidia-smi ${reason}`);
}

/** `0, NVIDIA L4, 23034 MiB` */
function describe(line: string): string {
  const [index = "", name = "", memory = ""] = line.split(",").map((field) => field.trim());
  return `GPU ${index} ${name} (${memory})`;
}

function listOfKernel(complaint: string): GpuSurvey {
  try {
    const gpus = readdirSync(DRIVER_FOLDER).map((address) => {
      const information = readFileSync(`${DRIVER_FOLDER}/${address}/information`, "utf8");
      return `${/^Model:\s*(.*)$/m.exec(information)?.[1] ?? "GPU"} at ${address}`;
    });
    return { gpus, source: `${DRIVER_FOLDER}; ${complaint}` };
  } catch {
    return { gpus: [], source: `${complaint}, and there is no ${DRIVER_FOLDER}` };
  }
}

const isText = (line: string) => line.trim() !== "";
