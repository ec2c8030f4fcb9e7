import { readFileSync, unwatchFile, watchFile } from "node:fs";
import type { Server as HttpServer } from "node:http";
import { createSecureContext, Server as TlsServer } from "node:tls";
import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";
import type { TlsOptions } from "../server/index.js";
import type { Flags } from "./flags/index.js";

type TlsFlags = Pick<
  Flags,
  "sslKeyfile" | "sslCertfile" | "sslCaCerts" | "sslCertReqs" | "sslCiphers"
>;

const fileFlags = {
  sslKeyfile: "--ssl-keyfile",
  sslCertfile: "--ssl-certfile",
  sslCaCerts: "--ssl-ca-certs",
} as const;

/** How often changed files are looked for; they change once in months. */
const REFRESH_INTERVAL_MS = 5_000;

/**
 * What the --ssl flags ask for, null for plain HTTP. The files are read and tried at once: a mistake
 * shows before the model is loaded. UCM_ERR_CONFIG names the flag and what is wrong.
 */
export function readTls(flags: TlsFlags): TlsOptions | null {
  const { sslKeyfile, sslCertfile, sslCaCerts, sslCertReqs, sslCiphers } = flags;
  if (sslCertfile === null) {
    const others = [sslKeyfile, sslCaCerts, sslCiphers].some((value) => value !== null);
    if (!others && sslCertReqs === 0) return null;
    throw badTls("--ssl-certfile is missing: TLS needs a certificate, in PEM.");
  }
  if (sslCertReqs > 0 && sslCaCerts === null) {
    throw badTls(
      "--ssl-cert-reqs asks clients for certificates, so --ssl-ca-certs must say whose are good.",
    );
  }
  const tls: TlsOptions = {
    cert: readPem(flags, "sslCertfile"),
    key: readPem(flags, sslKeyfile === null ? "sslCertfile" : "sslKeyfile"),
    ...(sslCaCerts === null ? {} : { ca: readPem(flags, "sslCaCerts") }),
    ...(sslCiphers === null ? {} : { ciphers: sslCiphers }),
    requestCert: sslCertReqs > 0,
    rejectUnauthorized: sslCertReqs > 1,
  };
  try {
    createSecureContext(tls);
  } catch (cause) {
    const where = sslKeyfile === null ? sslCertfile : `${sslCertfile} and ${sslKeyfile}`;
    throw badTls(
      `${where} cannot be used for TLS: ${(cause as Error).message}. Give a certificate (--ssl-certfile) and the key that belongs to it (--ssl-keyfile), both in PEM.`,
      cause,
    );
  }
  return tls;
}

/**
 * Takes renewed files into use for new connections (--enable-ssl-refresh); files that cannot be used
 * are warned of and change nothing. Returns what ends it.
 */
export function refreshTls(
  flags: TlsFlags,
  server: HttpServer | TlsServer,
  intervalMs = REFRESH_INTERVAL_MS,
): () => void {
  const files = [flags.sslKeyfile, flags.sslCertfile, flags.sslCaCerts].filter(
    (file) => file !== null,
  );
  const refresh = () => {
    try {
      const tls = readTls(flags);
      if (tls !== null && server instanceof TlsServer) server.setSecureContext(tls);
      log.info("Reloaded the TLS certificate.");
    } catch (error) {
      log.warning(`The TLS certificate in use stays: ${(error as Error).message}`);
    }
  };
  for (const file of files) {
    watchFile(file, { interval: intervalMs, persistent: false }, refresh);
  }
  return () => {
    for (const file of files) unwatchFile(file, refresh);
  };
}

function readPem(flags: TlsFlags, name: keyof typeof fileFlags): Buffer {
  const file = flags[name] ?? "";
  try {
    return readFileSync(file);
  } catch (cause) {
    throw badTls(`Cannot read ${fileFlags[name]} ${file}: ${(cause as Error).message}`, cause);
  }
}

function badTls(message: string, cause?: unknown): UcmError {
  return new UcmError("UCM_ERR_CONFIG", message, { cause });
}
