import type { SparseConfig } from "../messages/index.js";
import { type SparseFacts, type SparseMethod, sparseMethods } from "../sparse/index.js";
import { didYouMean, invalid, isObject, refuseUnknown } from "./store-extra.js";

/**
 * The sparse attention that kv_connector_extra_config asks for by `ucm_sparse_method`,
 * `ucm_sparse_config` or both; null for none. UCM_ERR_USAGE for what is not legal, with what is.
 */
export function resolveSparse(
  extra: Record<string, unknown>,
  facts: SparseFacts,
): SparseConfig | null {
  const { name, settings } = namedMethod(extra);
  if (name === null) return null;
  const method = Object.hasOwn(sparseMethods, name) ? sparseMethods[name] : undefined;
  if (method === undefined) {
    const names = Object.keys(sparseMethods);
    const near = didYouMean(name, names);
    throw invalid(
      `sparse attention method '${name}' is not known${near}; known is ${names.join(", ")}.`,
    );
  }
  const where = `ucm_sparse_config.${name}`;
  const config = method.configure(readSettings(where, method, settings), facts);
  if (typeof config === "string") throw invalid(`${where}: ${config}`);
  return config;
}

function namedMethod(extra: Record<string, unknown>): {
  name: string | null;
  settings: Record<string, unknown>;
} {
  const { ucm_sparse_method: method, ucm_sparse_config: config } = extra;
  const given = method === undefined || method === null || method === "" ? null : method;
  if (given !== null && typeof given !== "string") {
    throw invalid(
      `ucm_sparse_method must be the name of a method, such as "ESA", got ${JSON.stringify(given)}.`,
    );
  }
  if (config === undefined || config === null) return { name: given, settings: {} };
  const names = isObject(config) ? Object.keys(config) : null;
  if (names === null || names.length > 1) {
    throw invalid(
      `ucm_sparse_config must have one method and its keys, such as {"ESA": {"sparse_ratio": 0.3}}, got ${JSON.stringify(config)}.`,
    );
  }
  const name = names[0] ?? given;
  if (given !== null && name !== given) {
    throw invalid(
      `ucm_sparse_method is '${given}', but ucm_sparse_config is of '${name}'; give one method.`,
    );
  }
  const settings = name === null ? {} : ((config as Record<string, unknown>)[name] ?? {});
  if (!isObject(settings)) {
    throw invalid(
      `ucm_sparse_config.${name} must be an object of keys, got ${JSON.stringify(settings)}.`,
    );
  }
  return { name, settings };
}

function readSettings(
  where: string,
  { keys }: SparseMethod,
  given: Record<string, unknown>,
): Record<string, unknown> {
  refuseUnknown(where, given, Object.keys(keys));
  return Object.fromEntries(
    Object.entries(keys).map(([name, key]) => {
      if (given[name] === undefined) return [name, key.default];
      const value = key.read(given[name]);
      if (value !== undefined) return [name, value];
      throw invalid(
        `${where}: ${name} must be ${key.range}, got ${JSON.stringify(given[name])} (default ${JSON.stringify(key.default)}).`,
      );
    }),
  );
}
