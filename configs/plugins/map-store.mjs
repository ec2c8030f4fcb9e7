// A connector plug-in: a KV cache store in a Map of the worker. From the repository's root:
//
//   ucm serve models/ucm-demo --kv-transfer-config '{"kv_connector": "MapStore", "kv_role": "kv_both",
//     "kv_connector_module_path": "./configs/plugins/map-store.mjs",
//     "kv_connector_extra_config": {"max_blocks": 1000}}'
//
// A real one would keep records elsewhere, under the context's namespace, which is the same in all
// workers that may share them.

export class MapStore {
  #records = new Map();
  #maxBlocks;

  /** @param context namespace, about, recordBytes, rank, worldSize, settings */
  constructor({ settings }) {
    this.#maxBlocks = settings.max_blocks ?? 1000;
    if (!Number.isInteger(this.#maxBlocks) || this.#maxBlocks < 1) {
      throw new Error(`max_blocks must be a whole number from 1 on, got ${this.#maxBlocks}`);
    }
  }

  async has(keys) {
    return keys.map((key) => this.#records.has(key));
  }

  async get(keys) {
    return keys.map((key) => this.#records.get(key) ?? null);
  }

  async put(keys, records) {
    for (const [i, key] of keys.entries()) {
      this.#records.set(key, records[i]);
      // A Map keeps the order in which its keys came: the first is the oldest.
      if (this.#records.size > this.#maxBlocks) {
        this.#records.delete(this.#records.keys().next().value);
      }
    }
    return keys.map((key) => this.#records.has(key));
  }

  async delete(keys) {
    for (const key of keys) this.#records.delete(key);
  }
}
