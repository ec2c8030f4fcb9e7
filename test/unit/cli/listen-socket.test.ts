import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer as createHttpServer, get, type Server } from "node:http";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, describe, expect, it } from "vitest";
import { reserveSocket } from "../../../src/cli/listen-socket.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

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

  it("serves on a Unix socket, but not on one that is in use", async () => {
    const uds = join(makeTempFolder(), "socket");
    const socket = await reserveSocket({ ...local, uds });
    expect(socket.url).toBe(`unix:${uds}`);
    const server = createHttpServer((_, response) => response.end("here"));
    servers.push(server);
    await socket.handTo(server);
    const request = get({ socketPath: uds, path: "/", agent: false });
    const [response] = await once(request, "response");
    expect(String(await once(response, "data"))).toBe("here");
    await expect(reserveSocket({ ...local, uds })).rejects.toThrow("choose another with --uds");
  });

  it("takes the place of a socket file that a killed run left", async () => {
    const uds = join(makeTempFolder(), "socket");
    const script = `require("node:net").createServer().listen(${JSON.stringify(uds)}, () => process.kill(process.pid, "SIGKILL"))`;
    await execa(process.execPath, ["-e", script], { reject: false });
    expect(existsSync(uds)).toBe(true);
    (await reserveSocket({ ...local, uds })).close();
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
