import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseKvTransferConfig } from "../../../src/config/kv-transfer-config.js";
import { resolveStore } from "../../../src/config/store-config.js";
import type { UcmError } from "../../../src/errors/index.js";
import { captureLog } from "../../helpers/captured-log.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

const folder = makeTempFolder();
const logged = captureLog();

/** Qwen2.5-14B with blocks of 128 tokens in bfloat16. */
const block = { bytesPerBlock: 25_165_824, numLayers: 48, blockSize: 128 };

type Fields = Record<string, unknown>;

function transfer(extra: Fields, fields: Fields = {}): Fields {
  return {
    kv_connector: "UnifiedCacheConnectorV1",
    kv_connector_module_path: "unifiedcache.integration.vllm.uc_connector",
    kv_role: "kv_both",
    kv_connector_extra_config: extra,
    ...fields,
  };
}

const flat = (name: string, settings: Fields, more: Fields = {}) =>
  transfer({ ucm_connector_name: name, ucm_connector_config: settings, ...more });

const resolve = (config: Fields) => resolveStore(parseKvTransferConfig(config), block)!;

function failure(config: Fields): UcmError {
  try {
    resolve(config);
  } catch (error) {
    return error as UcmError;
  }
  throw new Error("expected an error");
}

const nfs = (settings: Fields = {}) =>
  flat("UcmNfsStore", { storage_backends: folder, ...settings });

describe("the stores of UCM's documents", () => {
  it("takes UcmDram with ESA, as the document has it", () => {
    const settings = { max_cache_size: 5368709120, kv_block_size: 262144 };
    const store = resolve(flat("UcmDram", settings, { ucm_sparse_method: "ESA" }));
    expect(store).toMatchObject({
      kind: "dram",
      memoryBytes: 5368709120,
      backends: [],
      canLoad: true,
      canDump: true,
      loadFailurePolicy: "recompute",
      loadDecision: "auto",
    });
  });

  it("takes UcmNfsStore with nothing but a folder", () => {
    expect(resolve(nfs({ kv_block_size: 33554432 }))).toMatchObject({
      kind: "files",
      memoryBytes: 0,
      backends: [folder],
      ioBytes: 262_144,
      directIo: false,
      capacityBytes: 0,
      recycle: true,
      recycleRatio: 0.7,
      timeoutMs: 30_000,
    });
  });

  it.each([
    ["UcmDramStore", { max_cache_size: "67108864" }, "dram"],
    ["UcmPcStore", { storage_backends: folder, shard_data_dir: true }, "files"],
    ["UcmPosixStore", { storage_backends: folder }, "files"],
    ["UcmPipelineStore", { storage_backends: folder }, "pipeline"],
    ["UcmPipelineStore", { storage_backends: folder, store_pipeline: "Cache|Posix" }, "pipeline"],
    ["UcmPipelineStore", { storage_backends: folder, store_pipeline: "Posix" }, "files"],
  ])("knows %s %j as %s", (name, settings, kind) => {
    expect(resolve(flat(name, settings)).kind).toBe(kind);
  });

  it.each<[string, unknown, Fields]>([
    ["transferStreamNumber", 16, { threads: 16 }],
    ["stream_number", "16", { threads: 16 }],
    ["posix_data_trans_concurrency", 128, { threads: 128 }],
    ["transferIoSize", 131072, { ioBytes: 131072 }],
    ["io_size", 131072, { ioBytes: 131072 }],
    ["transferIoDirect", true, { directIo: true }],
    ["use_direct", 1, { directIo: true }],
    ["io_direct", "false", { directIo: false }],
    ["storageCapacity", 1e12, { capacityBytes: 1e12 }],
    ["storage_capacity", 1e12, { capacityBytes: 1e12 }],
    ["posix_capacity_gb", 2, { capacityBytes: 2 ** 31 }],
    ["recycleEnable", 0, { recycle: false }],
    ["recycle_enable", true, { recycle: true }],
    ["posix_gc_enable", false, { recycle: false }],
    ["recycleThresholdRatio", 0.5, { recycleRatio: 0.5 }],
    ["recycle_threshold_ratio", "0.5", { recycleRatio: 0.5 }],
    ["posix_gc_trigger_threshold_ratio", 0.5, { recycleRatio: 0.5 }],
    ["transferTimeoutMs", 5000, { timeoutMs: 5000 }],
    ["timeout_ms", 5000, { timeoutMs: 5000 }],
    ["transferBufferNumber", 512, {}],
    ["hotnessEnable", true, {}],
  ])("takes %s %j", (key, value, expected) => {
    expect(resolve(nfs({ [key]: value }))).toMatchObject(expected);
  });

  it("takes the memory of a pipeline in bytes or GiB", () => {
    const pipeline = (settings: Fields) =>
      resolve(flat("UcmPipelineStore", { storage_backends: folder, ...settings })).memoryBytes;
    expect(pipeline({})).toBe(5368709120);
    expect(pipeline({ cache_buffer_capacity_gb: 0.5 })).toBe(2 ** 29);
    expect(pipeline({ max_cache_size: 2 ** 30 })).toBe(2 ** 30);
  });

  it.each([
    ["kv_both", true, true],
    ["kv_producer", false, true],
    ["kv_consumer", true, false],
  ])("lets %s load: %s, store: %s", (role, canLoad, canDump) => {
    const config = { ...nfs(), kv_role: role, kv_load_failure_policy: "fail" };
    expect(resolve(config)).toMatchObject({ canLoad, canDump, loadFailurePolicy: "fail" });
  });

  it("has none without a connector", () => {
    expect(resolveStore(parseKvTransferConfig({ kv_role: "kv_both" }), block)).toBeNull();
  });
});

describe("the newer generation", () => {
  const connectors = (settings: Fields = {}) => [
    {
      ucm_connector_name: "UcmPipelineStore",
      ucm_connector_config: {
        store_pipeline: "Cache|Posix",
        storage_backends: folder,
        ...settings,
      },
    },
  ];

  it("takes a list of one", () => {
    const extra = { ucm_connectors: connectors(), use_layerwise: true, enable_event_sync: false };
    const config = transfer(extra, {
      kv_connector: "UCMConnector",
      kv_connector_module_path: "ucm.integration.vllm.ucm_connector",
    });
    expect(resolve(config)).toMatchObject({ kind: "pipeline", backends: [folder] });
    expect(failure(transfer({ ucm_connectors: [] })).message).toContain("exactly one connector");
  });

  it("reads UCM_CONFIG_FILE, which goes over the keys beside it", () => {
    const path = join(folder, "ucm.yaml");
    const yaml = `ucm_connectors:
  - ucm_connector_name: "UcmPipelineStore"
    ucm_connector_config:
      store_pipeline: "Cache|Posix"
      storage_backends: "${folder}"
      cache_buffer_capacity_gb: 1
ucm_sparse_config:
  ESA:
    init_window_sz: 1
load_decision: auto
`;
    writeFileSync(path, yaml);
    const extra = { UCM_CONFIG_FILE: path, load_decision: "always" };
    expect(resolve(transfer(extra))).toMatchObject({
      kind: "pipeline",
      memoryBytes: 2 ** 30,
      loadDecision: "auto",
    });
    writeFileSync(path, "- 1\n- 2\n");
    expect(failure(transfer(extra)).message).toContain("holds no mapping");
    writeFileSync(path, "a: [1\n");
    expect(failure(transfer(extra)).message).toContain("is not valid");
    const missing = failure(transfer({ UCM_CONFIG_FILE: join(folder, "none.yaml") }));
    expect(missing.message).toContain("none.yaml cannot be read (ENOENT)");
  });
});

describe("mistakes", () => {
  it.each<[Fields, string]>([
    [flat("UcmDrm", {}), "'UcmDrm' is not known; did you mean 'UcmDram'?"],
    [flat("UcmMooncakeStore", {}), "UcmMooncakeStore is a store of its own network protocol"],
    [transfer({}), "no storage connector: give ucm_connector_name"],
    [
      transfer({ ucm_connector_config: {}, ucm_sparse_method: "ESA" }),
      "no storage connector: give ucm_connector_name",
    ],
    [transfer({ ucm_conector_name: "UcmDram" }), "did you mean 'ucm_connector_name'?"],
    [flat("UcmDram", { max_cach_size: 1 }), "did you mean 'max_cache_size'?"],
    [flat("UcmDram", { storage_backends: "/tmp" }), "unknown key 'storage_backends'"],
    [nfs({ storagecapacity: 1 }), "did you mean 'storageCapacity'?"],
    [nfs({ transferStreamNumber: 0 }), "transferStreamNumber: "],
    [nfs({ transferStreamNumber: "many" }), 'got "many"'],
    [nfs({ recycleThresholdRatio: 1.5 }), "recycleThresholdRatio: "],
    [nfs({ io_direct: true, use_direct: false }), "io_direct and use_direct set the same"],
    [flat("UcmDram", { max_cache_size: 0 }), "max_cache_size: "],
    [flat("UcmDram", { max_cache_size: 1000 }), "max_cache_size 1000 holds no block"],
    [flat("UcmNfsStore", {}), "UcmNfsStore needs storage_backends"],
    [flat("UcmPipelineStore", { store_pipeline: "Cache|Ds3fs" }), "use 'Cache|Posix' or 'Posix'"],
    [flat("UcmDram", {}, { load_decision: "never" }), "load_decision must be 'auto' or 'always'"],
    [
      transfer({ ucm_connector_name: "UcmDram" }, { kv_connector_module_path: "./mine.js" }),
      "kv_connector_module_path './mine.js' is none of UCM's, and no JavaScript module is there",
    ],
    [
      transfer({ ucm_connector_name: "UcmDram" }, { kv_connector: "UCMConector" }),
      "did you mean 'UCMConnector'?",
    ],
  ])("%j", (config, message) => {
    const error = failure(config);
    expect(error.message).toContain("argument --kv-transfer-config: ");
    expect(error.message).toContain(message);
    expect(error.exitCode).toBe(2);
  });

  it("says which kv_block_size would do", () => {
    expect(failure(nfs({ kv_block_size: 262144 })).message).toContain(
      'kv_block_size 262144 cannot hold a block: all 48 layers of 128 tokens (--block-size) take 25165824 bytes with this model and KV cache dtype. Give "kv_block_size": 25165824, or leave it out.',
    );
    expect(failure(flat("UcmDram", { kv_block_size: 262143 })).message).toContain(
      '"kv_block_size": 262144',
    );
  });
});

describe("folders", () => {
  it("are made when the one above is there, and may be several", () => {
    const [one, two] = [join(folder, "one"), join(folder, "two")];
    mkdirSync(two);
    const store = resolve(nfs({ storage_backends: `${one}:${two}` }));
    expect(store.backends).toEqual([one, two]);
    expect(existsSync(one)).toBe(true);
    expect(logged()).toContain(`Created the folder ${one}`);
  });

  it("that cannot be used are refused with the reason", () => {
    const deep = join(folder, "none", "deeper");
    expect(failure(nfs({ storage_backends: deep })).message).toContain(
      `the folder ${deep} cannot be used: it and the folder above it do not exist`,
    );
    const plain = join(folder, "plain");
    writeFileSync(plain, "");
    expect(failure(nfs({ storage_backends: plain })).message).toContain("it is not a folder");
    expect(failure(nfs({ storage_backends: join(plain, "below") })).message).toContain("ENOTDIR");
    const error = failure(nfs({ storage_backends: "/proc/ucm" }));
    expect(error.message).toContain("the folder /proc/ucm cannot be used");
    expect(error.code).toBe("UCM_ERR_CONFIG");
    expect(readdirSync(folder)).not.toContain("none");
  });
});
