import { type Agent, request } from "node:http";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { anyText, hugeText, routes } from "./bodies.js";
import type { Dice } from "./dice.js";

/** An answer, or null where the attacker did not wait for one or got none. */
export interface Answer {
  status: number;
  headers: NodeJS.Dict<string | string[]>;
  text: string;
}

export interface Target {
  host: string;
  port: number;
  agent: Agent;
}

/** One way to send something; never rejects because of what the server does. */
type Attack = (target: Target, dice: Dice) => Promise<Answer | null>;

/** Longest wait for an answer: a queue of hostile requests may be before it. */
const ANSWER_LIMIT_MS = 300_000;

/** A whole request, as clients send it. */
function send(
  { host, port, agent }: Target,
  path: string,
  text: string,
  more: { method?: string; headers?: Record<string, string> } = {},
): Promise<Answer | null> {
  const { method = "POST", headers = { "content-type": "application/json" } } = more;
  return new Promise((resolve, reject) => {
    const sent = request({ host, port, agent, path, method, headers }, async (response) => {
      let answer = "";
      try {
        for await (const data of response) answer += data;
      } catch {
        return resolve(null);
      }
      resolve({ status: response.statusCode!, headers: response.headers, text: answer });
    });
    sent.setTimeout(ANSWER_LIMIT_MS, () => reject(new Error(`No answer to ${path} ${text}`)));
    // A server that refuses early may close while the body is still on its way.
    sent.on("error", () => resolve(null));
    sent.end(text);
  });
}

/** Sends bytes piece by piece, then half-closes or not; what came back until the end or the limit. */
async function sendRaw(
  { host, port }: Target,
  pieces: readonly (string | Buffer)[],
  { pauseMs = 0, halfClose = false, waitMs = 250 } = {},
): Promise<Answer | null> {
  const socket = net.connect({ host, port, allowHalfOpen: true });
  socket.setNoDelay(true);
  let text = "";
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("data", (data) => {
    text += data.toString("latin1");
  });
  socket.on("error", () => undefined);
  socket.on("end", () => socket.end());
  for (const piece of pieces) {
    socket.write(piece);
    if (pauseMs > 0) await sleep(pauseMs);
  }
  if (halfClose) socket.end();
  await Promise.race([closed, sleep(waitMs, undefined, { ref: false })]);
  socket.destroy();
  const status = /^(?:HTTP\/1\.1 100 .*\r\n\r\n)?HTTP\/1\.1 (\d{3})/.exec(text)?.[1];
  return status === undefined || status === "100"
    ? null
    : { status: Number(status), headers: {}, text: "" };
}

const jsonHead = (path: string, ...lines: string[]) =>
  [`POST ${path} HTTP/1.1`, "host: x", "content-type: application/json", ...lines, "", ""].join(
    "\r\n",
  );

function whole(dice: Dice, path: string, text = anyText(dice, path)): Buffer {
  const body = Buffer.from(text);
  return Buffer.concat([Buffer.from(jsonHead(path, `content-length: ${body.length}`)), body]);
}

const streamed = (dice: Dice, path: string) => {
  const text = anyText(dice, path);
  const end = text.lastIndexOf("}");
  return end < 2 ? text : `${text.slice(0, end)},"stream":true,"max_tokens":40}`;
};

/** Leaves after a while, whatever the server is at. */
function leave(target: Target, path: string, text: string, afterMs: number): Promise<null> {
  return new Promise((resolve) => {
    const { host, port } = target;
    const headers = { "content-type": "application/json" };
    const sent = request({ host, port, agent: false, path, method: "POST", headers });
    sent.on("response", (response) => {
      response.on("error", () => undefined);
      response.resume();
    });
    sent.on("error", () => undefined);
    sent.on("close", () => resolve(null));
    sent.end(text);
    setTimeout(() => sent.destroy(), afterMs);
  });
}

const badLengths = [
  ...["content-length: -1", "content-length: 1e3", "content-length: 99999999999999999999"],
  ...["content-length: 5\r\ncontent-length: 6", "content-length: 5\r\ntransfer-encoding: chunked"],
  ...["content-length: 4294967296", "content-length: 33554433", "content-length:"],
  ...["transfer-encoding: gzip", "transfer-encoding: chunked, chunked", "expect: 100-continue"],
  "expect: something",
];

const badChunks = [
  ...["zz\r\n{}\r\n0\r\n\r\n", "ffffffffffffffff\r\n{}", "2\r\n{}", "2\r\n{}0\r\n\r\n"],
  ...[`2;${"x".repeat(20_000)}\r\n{}\r\n0\r\n\r\n`, "-2\r\n{}\r\n0\r\n\r\n", "0\r\n\r\n"],
];

const garbage = [
  ...["\r\n\r\n\r\n", "GET", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
  ...[
    "\u0016\u0003\u0001\u0002\u0000",
    "BREW /pot HTTP/1.1\r\nhost: x\r\n\r\n",
    "\u0000".repeat(4000),
  ],
  ...[`GET /${"a".repeat(70_000)} HTTP/1.1\r\nhost: x\r\n\r\n`, "GET /health HTTP/1.1\r\n\r\n"],
  ...[
    "GET / HTTP/1.1\r\nhost: x\r\nx: \u0001\r\n\r\n",
    "GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
  ],
  ...["OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", "CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n"],
  "GET /health HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
];

const oddPaths = [
  ...[
    "/",
    "//",
    "/%",
    "/%ff",
    "/v1/../v1/models",
    "/v1/models?x=%",
    "/v1/completions/",
    "/v1/none",
  ],
  ...[
    "/v1/responses/resp_1",
    "/v1/responses/%2e",
    "/metrics?a=b",
    "/health",
    "/v1/models",
    "/load",
  ],
  ...["/version", "/ping", "/is_paused", "/docs", "/tokenize?x[]=1", `/${"a/".repeat(2000)}`],
];

const oddTypes = [
  "text/plain",
  "",
  "multipart/form-data",
  "application/json; charset=\u007f",
  "*/*",
];

/** Each with how often it is chosen. */
export const attacks: Readonly<Record<string, [weight: number, attack: Attack]>> = {
  body: [
    760,
    (target, dice) => {
      const path = dice.pick(routes);
      return send(target, path, anyText(dice, path));
    },
  ],
  huge: [
    4,
    (target, dice) => {
      const path = dice.pick(routes);
      return send(target, path, hugeText(dice, path));
    },
  ],
  abortedStream: [
    40,
    (target, dice) => {
      const path = dice.pick(routes);
      return leave(target, path, streamed(dice, path), dice.pick([0, 1, 5, 20, 100, 400]));
    },
  ],
  abortedWait: [
    30,
    (target, dice) => {
      const path = dice.pick(routes);
      return leave(target, path, anyText(dice, path), dice.pick([0, 1, 5, 20, 100]));
    },
  ],
  wrongLength: [
    30,
    (target, dice) => {
      const path = dice.pick(routes);
      const text = anyText(dice, path);
      const length = Math.max(0, Buffer.byteLength(text) + dice.pick([-3, -1, 1, 40, 1e6]));
      const pieces = [jsonHead(path, `content-length: ${length}`), text];
      return sendRaw(target, pieces, { halfClose: dice.once(2) });
    },
  ],
  badLength: [
    20,
    (target, dice) => {
      const pieces = [jsonHead(dice.pick(routes), dice.pick(badLengths)), '{"a":1}'];
      return sendRaw(target, pieces, { halfClose: dice.once(2) });
    },
  ],
  badChunk: [
    15,
    (target, dice) => {
      const head = jsonHead(dice.pick(routes), "transfer-encoding: chunked");
      return sendRaw(target, [head, dice.pick(badChunks)], { halfClose: dice.once(2) });
    },
  ],
  slow: [
    15,
    (target, dice) => {
      const bytes = whole(dice, dice.pick(routes));
      const size = Math.ceil(bytes.length / 12);
      const pieces = Array.from({ length: dice.below(12) + 1 }, (_, i) =>
        bytes.subarray(i * size, (i + 1) * size),
      );
      return sendRaw(target, pieces, { pauseMs: 20 });
    },
  ],
  halfClosed: [
    20,
    (target, dice) =>
      sendRaw(target, [whole(dice, dice.pick(routes))], { halfClose: true, waitMs: 1000 }),
  ],
  pipelined: [
    10,
    (target, dice) => {
      const pieces = Array.from({ length: dice.below(20) + 2 }, () =>
        whole(dice, dice.pick(routes)),
      );
      return sendRaw(target, [Buffer.concat(pieces)], { halfClose: dice.once(2) });
    },
  ],
  garbage: [
    15,
    (target, dice) => sendRaw(target, [dice.pick(garbage)], { halfClose: dice.once(2) }),
  ],
  headers: [
    5,
    (target, dice) => {
      const [count, size] = dice.pick([
        [300, 5],
        [3000, 2],
        [3, 100_000],
        [1, 5_000_000],
      ] as const);
      const lines = Array.from({ length: count }, (_, i) => `x-${i}: ${"y".repeat(size)}`);
      return sendRaw(target, [jsonHead("/tokenize", ...lines, "content-length: 2"), "{}"]);
    },
  ],
  oddPath: [
    15,
    (target, dice) => {
      const method = dice.pick(["GET", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "POST"]);
      return send(target, dice.pick(oddPaths), "", { method, headers: {} });
    },
  ],
  oddType: [
    6,
    (target, dice) => {
      const path = dice.pick(routes);
      const type = dice.pick(oddTypes).replace("\u007f", "");
      return send(target, path, anyText(dice, path), { headers: { "content-type": type } });
    },
  ],
  oddBytes: [
    5,
    (target, dice) => {
      const body = dice.pick([
        Buffer.from([0xff, 0xfe]),
        Buffer.from('{"prompt":"\xe9"}', "latin1"),
      ]);
      const head = jsonHead(dice.pick(routes), `content-length: ${body.length}`);
      return sendRaw(target, [head, body]);
    },
  ],
  neverRead: [
    5,
    async ({ host, port }, dice) => {
      const path = dice.pick(routes);
      const socket = net.connect({ host, port });
      socket.on("error", () => undefined);
      socket.pause();
      socket.write(whole(dice, path, streamed(dice, path)));
      await sleep(dice.pick([50, 300]));
      socket.destroy();
      return null;
    },
  ],
};
