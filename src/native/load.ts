import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { UcmError } from "../errors/index.js";
import type { NativeAddon } from "./types.js";

/** Both src/native and dist/native lie two levels below the package root. */
const packageRoot = fileURLToPath(new URL("../../", import.meta.url));

let loaded: NativeAddon | undefined;

/**
 * The native addon, loaded once per thread: from UCM_NATIVE_PATH when it is set, else from
 * build/native/ucm.node of this package.
 *
 * @throws UcmError UCM_ERR_NATIVE when it is missing or cannot be loaded, which includes a
 *   UCM_CPU_ISA that this machine cannot run.
 */
export function loadNative(): NativeAddon {
  loaded ??= requireAddon(addonPath());
  return loaded;
}

function addonPath(): string {
  const override = process.env.UCM_NATIVE_PATH;
  return override ? resolve(override) : resolve(packageRoot, "build/native/ucm.node");
}

function requireAddon(path: string): NativeAddon {
  if (!existsSync(path)) {
    const hint = process.env.UCM_NATIVE_PATH
      ? "correct UCM_NATIVE_PATH, or unset it"
      : "run `npm run build:native`";
    throw new UcmError("UCM_ERR_NATIVE", `no native addon at ${path}; ${hint}`);
  }
  try {
    return createRequire(import.meta.url)(path) as NativeAddon;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // A forced instruction set says all itself; the file is good.
    const message = reason.startsWith("UCM_CPU_ISA")
      ? reason
      : `cannot load the native addon ${path}: ${reason}; if it was built for another machine or version, run \`npm run build:native\``;
    throw new UcmError("UCM_ERR_NATIVE", message, { cause: error });
  }
}
