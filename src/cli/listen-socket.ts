import { once } from "node:events";
import { statSync, unlinkSync } from "node:fs";
import type { Server as HttpServer } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { UcmError } from "../errors/index.js";

export interface ListenTarget {
  host: string | null;
  port: number;
  /** Unix socket path; host and port do not count then. */
  uds: string | null;
  /** Given for HTTPS. */
  sslCertfile?: string | null;
}

/** A bound socket that turns connections away until a server takes it over. */
export interface ReservedSocket {
  /** For people: http://0.0.0.0:8000, or unix:/path. */
  url: string;
  /** Lets the HTTP server answer on the socket. */
  handTo(server: HttpServer): Promise<void>;
  close(): void;
}

/**
 * Binds before the engine starts, so that a taken port shows at once and not after minutes of
 * loading. UCM_ERR_PORT with what to do.
 */
export async function reserveSocket(target: ListenTarget): Promise<ReservedSocket> {
  const holder = createServer();
  const turnAway = (socket: Socket) => socket.destroy();
  holder.on("connection", turnAway);
  try {
    await bind(holder, target);
  } catch (error) {
    throw bindError(target, error as NodeJS.ErrnoException);
  }
  return {
    url: describeAddress(holder, target),
    async handTo(server) {
      if (target.uds === null) {
        // The handle moves to the HTTP server, which sets its own connection handler on it.
        server.listen(holder);
      } else {
        // A pipe's handle cannot be listened on twice.
        await new Promise((resolve) => holder.close(resolve));
        server.listen(target.uds);
      }
      await once(server, "listening");
      holder.off("connection", turnAway);
    },
    close: () => holder.close(),
  };
}

async function bind(holder: Server, { host, port, uds }: ListenTarget): Promise<void> {
  if (uds !== null) await removeStaleSocket(uds);
  if (uds !== null) holder.listen(uds);
  else if (host === null || host === "") holder.listen(port);
  else holder.listen(port, host);
  await once(holder, "listening");
}

/** Removes the file of a socket on which nobody listens any more; bind complains about others. */
async function removeStaleSocket(path: string): Promise<void> {
  if (!statSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const probe = connect(path);
  const isAnswered = await new Promise<boolean>((resolve) => {
    probe.once("connect", () => resolve(true));
    probe.once("error", () => resolve(false));
  });
  probe.destroy();
  if (!isAnswered) unlinkSync(path);
}

function describeAddress(holder: Server, target: ListenTarget): string {
  const { host, port, uds, sslCertfile = null } = target;
  if (uds !== null) return `unix:${uds}`;
  const address = holder.address();
  const actual = typeof address === "object" && address !== null ? address.port : port;
  const name = host === null || host === "" ? "0.0.0.0" : host;
  return `${sslCertfile === null ? "http" : "https"}://${name.includes(":") ? `[${name}]` : name}:${actual}`;
}

function bindError({ host, port, uds }: ListenTarget, error: NodeJS.ErrnoException): UcmError {
  const where = uds ?? (host === null ? `port ${port}` : `${host}:${port}`);
  const reasons: Record<string, string> = {
    EADDRINUSE: `${where} is already in use. Stop what listens there, or choose another with ${uds === null ? "--port" : "--uds"}.`,
    EACCES: `Permission denied to listen on ${where}. Ports below 1024 need privileges: choose another with --port.`,
    EADDRNOTAVAIL: `${where} is not an address of this machine. Check --host.`,
    ENOTFOUND: `${where}: the host name is not known. Check --host.`,
  };
  const reason = reasons[error.code ?? ""] ?? `Cannot listen on ${where}: ${error.message}`;
  return new UcmError("UCM_ERR_PORT", reason, { cause: error });
}
