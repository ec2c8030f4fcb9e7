import { rmSync } from "node:fs";
import { afterEach, beforeEach } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { type LabServer, type ServerChanges, startServer } from "./store-lab.js";

/** Servers of two ranks, and a folder for their stores; both go with the test. Call once in a file. */
export function rankServers() {
  const servers: LabServer[] = [];
  let folder = "";
  beforeEach(() => {
    folder = makeTempFolder();
  });
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.stop()));
    rmSync(folder, { recursive: true });
  });
  return {
    /** Of the test that runs. */
    folder: () => folder,
    /** Without a store, unless one is named. */
    start: async (changes: Partial<ServerChanges>): Promise<LabServer> => {
      const server = await startServer({ tensorParallelSize: 2, store: null, ...changes });
      servers.push(server);
      return server;
    },
  };
}
