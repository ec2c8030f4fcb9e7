import { once } from "node:events";
import { createServer as createHttpServer, type Server } from "node:http";
import { connect, createServer } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { reserveSocket } from "../../../src/cli/listen-socket.js";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

const local = { host: "127.0.0.1", port: 0, uds: null };
const portOf = (url: string) => Number(new URL(url).port);

describe("reserveSocket", () => {
  it("turns connections away until an HTTP server takes over", async () => {
    const socket = await reserveSocket(local);
    const early = connect(portOf(socket.url), "127.0.0.1");
    await once(early, "close");
    const server = createHttpServer((_, response) => response.end("here"));
    servers.push(server);
    await socket.handTo(server);
    const reply = await fetch(socket.url);
    expect(await reply.text()).toBe("here");
  });

  it("frees the port when closed unused", async () => {
    const socket = await reserveSocket(local);
    socket.close();
    const again = await reserveSocket({ ...local, port: portOf(socket.url) });
    expect(again.url).toBe(socket.url);
    again.close();
  });

  it("says that a port is taken, and what to do", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const { port } = holder.address() as { port: number };
    await expect(reserveSocket({ ...local, port })).rejects.toMatchObject({
      code: "UCM_ERR_PORT",
      exitCode: 2,
      message: `127.0.0.1:${port} is already in use. Stop what listens there, or choose another with --port.`,
    });
    holder.close();
  });

  it("says that an address is not this machine's", async () => {
    await expect(reserveSocket({ ...local, host: "192.0.2.1" })).rejects.toThrow(
      "is not an address of this machine",
    );
  });
});
