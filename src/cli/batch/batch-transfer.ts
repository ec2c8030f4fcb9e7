import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { toUcmError, UcmError } from "../../errors/index.js";
import { log } from "../../log/index.js";
import { expectSuccess, readBody, sendRequest } from "../client/http-client.js";
import type { BatchRecord } from "./batch-file.js";

const isUrl = (place: string) => /^https?:\/\//i.test(place);

/** The text of a batch: of a file, or of what a GET of its URL answers. UCM_ERR_PROMPT_FILE. */
export async function readInput(place: string, signal: AbortSignal): Promise<string> {
  try {
    if (!isUrl(place)) return readFileSync(place, "utf8");
    return await readBody(await expectSuccess(await sendRequest(place, { signal })));
  } catch (cause) {
    signal.throwIfAborted();
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = code === "ENOENT" ? "there is no such file" : message.replace(/\.$/, "");
    throw new UcmError("UCM_ERR_PROMPT_FILE", `The input file ${place} cannot be read: ${reason}.`);
  }
}

/** Where the records of a batch go. */
export interface BatchOutput {
  /** UCM_ERR_OUTPUT_FILE. */
  write(record: BatchRecord): void;
  /** Call when every record is written: sends them to a URL. UCM_ERR_OUTPUT_FILE names what is kept. */
  finish(signal: AbortSignal): Promise<void>;
  close(): void;
}

/**
 * Opens the output at once, so that a bad path shows before the work. What is for a URL is collected in a
 * file of `tmpDir` (null: the system's folder), which stays when it cannot be sent.
 */
export function openOutput(place: string, tmpDir: string | null): BatchOutput {
  const attempt = <T>(action: () => T): T => {
    try {
      return action();
    } catch (cause) {
      throw outputError(place, (cause as Error).message);
    }
  };
  const path = isUrl(place)
    ? attempt(() => join(mkdtempSync(join(tmpDir ?? tmpdir(), "ucm-batch-")), "output.jsonl"))
    : place;
  const file = attempt(() => openSync(path, "w"));
  return {
    write: (record) => {
      attempt(() => writeSync(file, `${JSON.stringify(record)}\n`));
    },
    finish: async (signal) => {
      if (path === place) return;
      await upload(path, place, signal);
      rmSync(dirname(path), { recursive: true });
    },
    close: () => closeSync(file),
  };
}

const UPLOAD_TRIES = 5;
const UPLOAD_PAUSE_MS = 200;

/** PUTs the file, as vLLM does; answers that may be better next time are asked for again. */
async function upload(path: string, url: string, signal: AbortSignal): Promise<void> {
  const payload = readFileSync(path);
  for (let tries = 1; ; tries++) {
    try {
      const headers = { "content-type": "application/jsonl" };
      const answer = await sendRequest(url, { method: "PUT", headers, payload, signal });
      await readBody(await expectSuccess(answer));
      return;
    } catch (error) {
      const message = toUcmError(error).message.replace(/\.?$/, ".");
      const isLast = tries === UPLOAD_TRIES || signal.aborted || / answered 4\d\d: /.test(message);
      if (isLast) throw outputError(url, `${message} The records are in ${path}`);
      log.warning(`${message} Sending the output file again.`);
      await delay(UPLOAD_PAUSE_MS * 2 ** tries);
    }
  }
}

function outputError(place: string, reason: string): UcmError {
  return new UcmError("UCM_ERR_OUTPUT_FILE", `Cannot write the output file ${place}: ${reason}.`);
}
