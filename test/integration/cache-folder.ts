import { createHash } from "node:crypto";
import { join } from "node:path";
import { type KvArena, type KvStore, loadNative } from "../../src/native/index.js";

const native = loadNative();
const shape = { numLayers: 2, blockSize: 16 };

function createArena(): KvArena {
  return native.createArena({
    ...shape,
    ...{ numBlocks: 8, numQueryHeads: 2, numKvHeads: 1, headDim: 64, dtype: "float32", rope: null },
  });
}

/** A store with a folder, as a server has it open. */
export interface OpenedStore {
  store: KvStore;
  arena: KvArena;
  namespace: string;
  keys: string[];
}

const digest = (text: string) => createHash("sha256").update(text).digest();

/** Opens a store on folders and dumps `count` blocks into it. */
export async function openStore(
  backends: string[],
  name: string,
  count: number,
): Promise<OpenedStore> {
  const arena = createArena();
  const namespace = digest(name);
  const store = native.createStore({
    ...shape,
    namespace,
    about: JSON.stringify({ model: name, architecture: "Test", kvDtype: "float32", blockSize: 16 }),
    bytesPerBlock: arena.bytesPerBlock,
    files: { backends },
  });
  const keys = Array.from({ length: count }, (_, i) => digest(`${name} ${i}`));
  for (const key of keys) await store.dump(key, arena, Int32Array.of(0));
  return {
    store,
    arena,
    namespace: namespace.toString("hex"),
    keys: keys.map((key) => key.toString("hex")),
  };
}

export function blockPath(folder: string, namespace: string, key: string): string {
  return join(folder, "ucm-v1/blocks", namespace, key.slice(0, 2), `${key}.kv`);
}

export const keyBytes = (...keys: string[]) => new Uint8Array(Buffer.from(keys.join(""), "hex"));
