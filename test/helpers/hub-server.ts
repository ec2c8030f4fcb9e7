import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { startServer } from "./loopback-server.js";

export interface HubFile {
  content: Buffer;
  /** Big files: told by sha256, sent from another address. */
  isLfs?: boolean;
}

/** What a test does to a transfer; true when it has answered itself. */
export type Trouble = (transfer: {
  path: string;
  /** 1 for the first request of this file. */
  attempt: number;
  range: string | undefined;
  request: IncomingMessage;
  response: ServerResponse;
  content: Buffer;
}) => boolean;

export interface HubServer {
  url: string;
  /** Requests in order, `GET /path [range]`. */
  seen: string[];
  /** Authorization headers that came to the file server. */
  keysAtFileServer: (string | undefined)[];
}

export const commit = "c0ffee".padEnd(40, "0");

export const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const gitSha1 = (bytes: Buffer) =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

/**
 * A server that answers like the model hub for `Org/Name` at `main` and at its commit: model info, a
 * listing in two pages, files with ranges, LFS files by way of a redirect to another origin.
 */
export async function startHub(
  files: Record<string, HubFile>,
  { token = null, trouble = () => false }: { token?: string | null; trouble?: Trouble } = {},
): Promise<HubServer> {
  const attempts = new Map<string, number>();
  const hub: HubServer = { url: "", seen: [], keysAtFileServer: [] };
  const send = (path: string, request: IncomingMessage, response: ServerResponse) => {
    const file = files[path];
    if (file === undefined) return void response.writeHead(404).end();
    const { range } = request.headers;
    const attempt = (attempts.get(path) ?? 0) + 1;
    attempts.set(path, attempt);
    const { content } = file;
    if (trouble({ path, attempt, range, request, response, content })) return;
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    if (from > 0) response.writeHead(206, { "content-range": `bytes ${from}-/${content.length}` });
    response.end(content.subarray(from));
  };
  const fileServer = await startServer((request, response) => {
    hub.keysAtFileServer.push(request.headers.authorization);
    send(decodeURIComponent((request.url ?? "").slice(1)), request, response);
  });
  hub.url = await startServer((request, response) => {
    const url = new URL(request.url ?? "", "http://hub");
    hub.seen.push([request.method, url.pathname, request.headers.range].filter(Boolean).join(" "));
    if (token !== null && request.headers.authorization !== `Bearer ${token}`) {
      return void response.writeHead(401).end("{}");
    }
    const revision = /^\/api\/models\/Org\/Name\/revision\/(.+)$/.exec(url.pathname)?.[1];
    if (revision === "main" || revision === commit) {
      return void response.end(
        JSON.stringify({ _id: "1", id: "Org/Name", sha: commit, lastModified: "2026-01-01" }),
      );
    }
    if (url.pathname === `/api/models/Org/Name/tree/${commit}`) {
      const entries = Object.entries(files).map(describe);
      const isFirst = !url.searchParams.has("cursor");
      if (isFirst) response.setHeader("link", `<${hub.url}${url.pathname}?cursor=1>; rel="next"`);
      return void response.end(JSON.stringify(isFirst ? entries.slice(0, 1) : entries.slice(1)));
    }
    const path = decodeURIComponent(url.pathname.split(`/Org/Name/resolve/${commit}/`)[1] ?? "");
    if (files[path]?.isLfs === true) {
      return void response.writeHead(302, { location: `${fileServer}/${path}` }).end();
    }
    send(path, request, response);
  });
  return hub;
}

function describe([path, { content, isLfs }]: [string, HubFile]) {
  const entry = { type: "file", path, size: content.length };
  return isLfs === true
    ? { ...entry, oid: "0".repeat(40), lfs: { oid: sha256(content), size: content.length } }
    : { ...entry, oid: gitSha1(content) };
}
