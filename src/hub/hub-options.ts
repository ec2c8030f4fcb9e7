import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { getHFHubCachePath, HUB_URL } from "@huggingface/hub";

/** Where models come from and where they are kept. */
export interface HubOptions {
  /** Without a slash at the end. */
  endpoint: string;
  token: string | null;
  /** Folder of `models--Org--Name` folders. */
  cacheDir: string;
  /** Take what is in the cache and ask nobody. */
  isOffline: boolean;
}

/**
 * The hub's own variables: HF_ENDPOINT, HF_TOKEN (or the file that a login left), HF_HUB_CACHE,
 * HF_HOME, HF_HUB_OFFLINE. `given` are flags, which win.
 */
export function readHubOptions(
  given: { token: string | null; downloadDir: string | null },
  env: NodeJS.ProcessEnv,
): HubOptions {
  const endpoint = (env.HF_ENDPOINT || HUB_URL).replace(/\/+$/, "");
  // A bare --hf-token means the token of the login, which counts anyway.
  const flagToken = given.token === "True" ? null : given.token;
  return {
    endpoint,
    token: flagToken ?? (env.HF_TOKEN || readLoginToken(env)),
    cacheDir: given.downloadDir ?? getHFHubCachePath(),
    isOffline: isSet(env.HF_HUB_OFFLINE) || isSet(env.TRANSFORMERS_OFFLINE),
  };
}

function isSet(text: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(text ?? "");
}

function readLoginToken(env: NodeJS.ProcessEnv): string | null {
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
  const path = env.HF_TOKEN_PATH || join(home, "token");
  const token = existsSync(path) ? readFileSync(path, "utf8").trim() : "";
  return token === "" ? null : token;
}
