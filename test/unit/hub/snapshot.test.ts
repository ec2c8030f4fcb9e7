import { randomBytes } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { isHubName, isModelFile, patternToRegExp } from "../../../src/cli/model-files.js";
import { UcmError } from "../../../src/errors/index.js";
import { fetchSnapshot, readHubOptions, type SnapshotRequest } from "../../../src/hub/index.js";
import { captureLog } from "../../helpers/captured-log.js";
import {
  commit,
  type HubFile,
  type HubServer,
  sha256,
  startHub,
  type Trouble,
} from "../../helpers/hub-server.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

const logged = captureLog();
const weights = randomBytes(300_000);
const files: Record<string, HubFile> = {
  "config.json": { content: Buffer.from('{"a": 1}') },
  "model.safetensors": { content: weights, isLfs: true },
  "empty.json": { content: Buffer.alloc(0) },
  "pytorch_model.bin": { content: Buffer.from("no"), isLfs: true },
};

let cacheDir = "";
beforeEach(() => {
  cacheDir = makeTempFolder();
});

const repoFolder = () => join(cacheDir, "models--Org--Name");
const blobOfWeights = () => join(repoFolder(), "blobs", sha256(weights));

function request(hub: { url: string }, changes: Partial<SnapshotRequest> = {}): SnapshotRequest {
  return {
    name: "Org/Name",
    revision: "main",
    wants: (path) => isModelFile(path, true),
    options: { endpoint: hub.url, token: null, cacheDir, isOffline: false },
    signal: new AbortController().signal,
    onProgress: () => {},
    patience: { stallMs: 300, retryMs: 5, tries: 3 },
    ...changes,
  };
}

const offline = (hub: { url: string }) =>
  request(hub, { options: { ...request(hub).options, isOffline: true } });

async function failure(wanted: SnapshotRequest): Promise<UcmError> {
  const error = await fetchSnapshot(wanted).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UcmError);
  return error as UcmError;
}

/** Only the first `times` transfers of the weights go wrong. */
const early =
  (times: number, act: Trouble): Trouble =>
  (transfer) =>
    transfer.path === "model.safetensors" && transfer.attempt <= times && act(transfer);

const cut = early(1, ({ response, content }) => {
  response.setHeader("content-length", content.length);
  response.write(content.subarray(0, 100_000), () => response.destroy());
  return true;
});

describe("fetchSnapshot", () => {
  it("lays files out as the hub's own cache does", async () => {
    const hub = await startHub(files);
    const progress: number[] = [];
    const folder = await fetchSnapshot(
      request(hub, {
        onProgress: ({ doneBytes, totalBytes }) => progress.push(doneBytes / totalBytes),
      }),
    );
    expect(folder).toBe(join(repoFolder(), "snapshots", commit));
    expect(readdirSync(folder).sort()).toEqual(["config.json", "empty.json", "model.safetensors"]);
    expect(readFileSync(join(folder, "model.safetensors")).equals(weights)).toBe(true);
    expect(lstatSync(join(folder, "config.json")).isSymbolicLink()).toBe(true);
    expect(readFileSync(join(repoFolder(), "refs/main"), "utf8")).toBe(commit);
    expect(progress.at(-1)).toBe(1);
    expect(readdirSync(join(repoFolder(), "blobs")).every((name) => !name.includes("."))).toBe(
      true,
    );
    expect(logged()).toContain("Downloading Org/Name: 3 files, 0.3 MiB");
  });

  it("asks for nothing twice", async () => {
    const hub = await startHub(files);
    await fetchSnapshot(request(hub));
    hub.seen.length = 0;
    await fetchSnapshot(request(hub, { revision: commit }));
    expect(hub.seen.filter((line) => line.includes("/resolve/"))).toEqual([]);
  });

  it("sends the token to the hub and to nobody else", async () => {
    const hub = await startHub(files, { token: "secret" });
    const options = { ...request(hub).options, token: "secret" };
    await fetchSnapshot(request(hub, { options }));
    expect(hub.keysAtFileServer).toEqual([undefined]);
  });

  it("takes what is in the cache when offline, or when the hub is away", async () => {
    const hub = await startHub(files);
    expect((await failure(offline(hub))).message).toMatch(
      /^HF_HUB_OFFLINE is set, and Org\/Name with revision main is not in the cache/,
    );
    const folder = await fetchSnapshot(request(hub));
    hub.seen.length = 0;
    expect(await fetchSnapshot(offline(hub))).toBe(folder);
    expect(hub.seen).toEqual([]);
    expect(await fetchSnapshot(request({ url: "http://127.0.0.1:1" }))).toBe(folder);
    expect(logged()).toContain("The copy of Org/Name in the cache is used.");
  });

  it("downloads the same at the same time without harm", async () => {
    const slow: Trouble = ({ path, response, content }) => {
      if (path !== "model.safetensors") return false;
      response.write(content.subarray(0, 100_000));
      setTimeout(() => response.end(content.subarray(100_000)), 100);
      return true;
    };
    const hub = await startHub(files, { trouble: slow });
    const folders = await Promise.all([1, 2, 3].map(() => fetchSnapshot(request(hub))));
    expect(readFileSync(join(folders[0]!, "model.safetensors")).equals(weights)).toBe(true);
    const left = readdirSync(join(repoFolder(), "blobs"));
    expect(left.filter((name) => name.includes("."))).toEqual([]);
  });

  it("takes over from a process that is gone", async () => {
    mkdirSync(dirname(blobOfWeights()), { recursive: true });
    writeFileSync(`${blobOfWeights()}.incomplete`, weights.subarray(0, 1000));
    writeFileSync(`${blobOfWeights()}.incomplete.lock`, `${hostname()} 4194999`);
    const hub = await startHub(files);
    await fetchSnapshot(request(hub));
    expect(readdirSync(join(repoFolder(), "blobs")).filter((name) => name.includes("."))).toEqual(
      [],
    );
  });

  it("never leaves the cache's folder", async () => {
    const hub = await startHub({
      ...files,
      "../evil.json": { content: Buffer.from("{}") },
      "a/../../../evil.json": { content: Buffer.from("{}") },
    });
    await fetchSnapshot(request(hub));
    expect(existsSync(join(repoFolder(), "snapshots/evil.json"))).toBe(false);
    expect(hub.seen.some((line) => line.includes("evil"))).toBe(false);
  });
});

describe("a transfer that goes wrong", () => {
  const download = async (trouble: Trouble, url?: (hub: HubServer) => void) => {
    const hub = await startHub(files, { trouble });
    url?.(hub);
    const folder = await fetchSnapshot(request(hub));
    expect(readFileSync(join(folder, "model.safetensors")).equals(weights)).toBe(true);
    return hub;
  };

  it("goes on from where it broke off", async () => {
    const ranges: (string | undefined)[] = [];
    await download((transfer) => {
      if (transfer.path === "model.safetensors") ranges.push(transfer.range);
      return early(
        1,
        ({ response, content }) => !!response.end(content.subarray(0, 100_000)),
      )(transfer);
    });
    expect(ranges).toEqual([undefined, "bytes=100000-"]);
  });

  it("survives a connection that breaks", async () => {
    await download(cut);
  });

  it("goes on from what an earlier process left", async () => {
    mkdirSync(dirname(blobOfWeights()), { recursive: true });
    writeFileSync(`${blobOfWeights()}.incomplete`, weights.subarray(0, 200_000));
    let range: string | undefined;
    await download((transfer) => {
      if (transfer.path === "model.safetensors") range = transfer.range;
      return false;
    });
    expect(range).toBe("bytes=200000-");
  });

  it("starts again when what is there is wrong", async () => {
    mkdirSync(dirname(blobOfWeights()), { recursive: true });
    writeFileSync(`${blobOfWeights()}.incomplete`, Buffer.alloc(200_000, 7));
    await download(() => false);
    expect(existsSync(`${blobOfWeights()}.incomplete`)).toBe(false);
  });

  it("starts again when the server ignores the range", async () => {
    await download((transfer) => {
      if (cut(transfer)) return true;
      if (transfer.path !== "model.safetensors") return false;
      transfer.response.end(transfer.content);
      return true;
    });
  });

  it.each([500, 503, 429])("tries again after status %i", async (status) => {
    await download(early(2, ({ response }) => !!response.writeHead(status).end()));
  });

  it("tries again after silence", async () => {
    await download(
      early(1, ({ response, content }) => response.write(content.subarray(0, 10)) || true),
    );
  });

  it("tries again after an answer that ends too early, or has other bytes", async () => {
    await download(early(1, ({ response, content }) => !!response.end(content.subarray(0, 9))));
    cacheDir = makeTempFolder();
    await download(
      early(1, ({ response, content }) => !!response.end(Buffer.alloc(content.length))),
    );
  });

  it("gives up with the reason, and keeps what has come", async () => {
    const always: Trouble = (transfer) =>
      transfer.path === "model.safetensors" && !!transfer.response.writeHead(502).end();
    const hub = await startHub(files, { trouble: always });
    const error = await failure(request(hub));
    expect(error.code).toBe("UCM_ERR_REMOTE");
    expect(error.message).toBe(
      "Downloading model.safetensors failed 3 times, last because the server answered 502. What has come is kept: run the same command again to go on.",
    );
    expect(existsSync(join(repoFolder(), "refs/main"))).toBe(false);
    expect((await failure(offline(hub))).code).toBe("UCM_ERR_MODEL_NOT_FOUND");
  });

  it("never keeps a file with a wrong checksum", async () => {
    const hub = await startHub(files, {
      trouble: ({ path, response, content }) =>
        path === "model.safetensors" && !!response.end(Buffer.alloc(content.length)),
    });
    expect((await failure(request(hub))).message).toMatch(/its sha256 is [0-9a-f]{64} in place of/);
    expect(existsSync(blobOfWeights())).toBe(false);
    expect(existsSync(`${blobOfWeights()}.incomplete`)).toBe(false);
  });

  it("stops at once when asked to", async () => {
    const controller = new AbortController();
    const hub = await startHub(files, {
      trouble: early(9, ({ response, content }) => {
        response.write(content.subarray(0, 10), () => controller.abort(new Error("stopped")));
        return true;
      }),
    });
    await expect(fetchSnapshot(request(hub, { signal: controller.signal }))).rejects.toThrow(
      "stopped",
    );
  });
});

describe("refusals of the hub", () => {
  it("are told in words that help", async () => {
    const hub = await startHub(files, { token: "secret" });
    const unauthorized = await failure(request(hub));
    expect(unauthorized.code).toBe("UCM_ERR_MODEL_NOT_FOUND");
    expect(unauthorized.message).toContain("Set HF_TOKEN");
    const open = await startHub(files);
    expect((await failure(request(open, { name: "Org/Other" }))).message).toBe(
      `The hub at ${open.url} has no model Org/Other with revision main, and there is no such folder here.`,
    );
    expect((await failure(request(open, { revision: "v9" }))).message).toContain("revision v9");
    const gone = await failure(request({ url: "http://127.0.0.1:1" }));
    expect(gone.code).toBe("UCM_ERR_REMOTE");
    expect(gone.message).toMatch(
      /^Cannot reach the model hub at http:\/\/127\.0\.0\.1:1 for Org\/Name: /,
    );
  });
});

describe("names and variables", () => {
  it("tells names of the hub from folders", () => {
    expect(["Qwen/Qwen2.5-0.5B", "a/b"].map(isHubName)).toEqual([true, true]);
    const paths = ["/a/b", "./a/b", "../a", "a", "a/b/c", "~/a", "models/ucm-demo", "-x/y z"];
    expect(paths.map(isHubName)).toEqual(paths.map(() => false));
  });

  it("takes what the engine reads", () => {
    const wanted = (weightsToo: boolean) =>
      ["config.json", "model-00001-of-2.safetensors", "merges.txt", "chat_template.jinja"].filter(
        (path) => isModelFile(path, weightsToo),
      ).length;
    expect([wanted(true), wanted(false)]).toEqual([4, 3]);
    const others = ["pytorch_model.bin", "consolidated.safetensors", "README.md", "model.gguf"];
    expect(others.filter((path) => isModelFile(path, true))).toEqual([]);
  });

  it("reads patterns of files to leave out as fnmatch does", () => {
    const matching = (pattern: string) =>
      ["model-00001-of-2.safetensors", "a+b.json", "config.json", "vocab.txt"].filter((path) =>
        patternToRegExp(pattern).test(path),
      );
    expect(matching("*.json")).toEqual(["a+b.json", "config.json"]);
    expect(matching("a+b.json")).toEqual(["a+b.json"]);
    expect(matching("vocab.t?t")).toEqual(["vocab.txt"]);
    expect(matching("model-*")).toEqual(["model-00001-of-2.safetensors"]);
    expect(matching("original/**/*")).toEqual([]);
    expect(matching("config")).toEqual([]);
  });

  it("reads the hub's own variables, and a login's token", () => {
    const home = makeTempFolder();
    writeFileSync(join(home, "token"), "from-login\n");
    const read = (env: Record<string, string>, token: string | null = null) =>
      readHubOptions({ token, downloadDir: "/d" }, { HF_HOME: home, ...env });
    expect(read({ HF_ENDPOINT: "http://hub/" })).toEqual({
      endpoint: "http://hub",
      token: "from-login",
      cacheDir: "/d",
      isOffline: false,
    });
    expect(read({ HF_TOKEN: "t" }).token).toBe("t");
    expect(read({ HF_TOKEN: "t" }, "flag").token).toBe("flag");
    expect(read({}, "True").token).toBe("from-login");
    expect(read({ HF_HUB_OFFLINE: "1" }).isOffline).toBe(true);
    expect(read({}).endpoint).toMatch(/^https:\/\/\w/);
  });
});
