/**
 * A connector plug-in: a JavaScript module that `kv_connector_module_path` names, with a class under the
 * name `kv_connector`. `new` is called once per worker; configs/plugins has an example.
 *
 * What a plug-in gives back is checked before it is used, so the worst that it can do is to find nothing.
 * Calls may overlap; one that rejects, or takes longer than `transferTimeoutMs`, has found or stored
 * nothing. Everything runs on the worker's JavaScript thread, between steps: do no heavy work on it.
 */
export interface PluginStore {
  /** Which blocks are there. A wrong answer costs time, never a wrong result. */
  has(keys: readonly string[]): Promise<boolean[]>;
  /** The records of blocks as they were put; null where there is none. */
  get(keys: readonly string[]): Promise<(Uint8Array | null)[]>;
  /** Keeps records, which are its own from now on; false where it does not. */
  put(keys: readonly string[], records: readonly Uint8Array[]): Promise<boolean[]>;
  /** Drops blocks that turned out to be bad. */
  delete?(keys: readonly string[]): Promise<void>;
  /** The worker ends. */
  close?(): Promise<void>;
}

/** What a plug-in is told at its start. */
export interface PluginContext {
  /**
   * 64 hexadecimal digits: equal keys of different namespaces are different blocks. It digests the model,
   * its formats, the block size, rank and world size.
   */
  namespace: string;
  /** The same in one line of JSON for people. */
  about: string;
  /** Of each record: a block's bytes and its checksum. */
  recordBytes: number;
  rank: number;
  worldSize: number;
  /** kv_connector_extra_config as it was given. */
  settings: Readonly<Record<string, unknown>>;
}

export type PluginClass = new (context: PluginContext) => PluginStore;
