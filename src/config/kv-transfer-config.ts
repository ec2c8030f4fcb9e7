import { z } from "zod";
import { UcmError } from "../errors/index.js";
import { nearestName } from "./nearest-name.js";

const roles = ["kv_producer", "kv_both", "kv_consumer"] as const;

/** vLLM's KVTransferConfig; numeric strings are taken for numbers, as pydantic does. */
const kvTransferConfigSchema = z.strictObject({
  kv_connector: z.string().nullish(),
  engine_id: z.string().nullish(),
  kv_buffer_device: z.string().optional(),
  kv_buffer_size: z.coerce.number().optional(),
  kv_role: z.enum(roles).nullish(),
  kv_rank: z.coerce.number().int().nullish(),
  kv_parallel_size: z.coerce.number().int().optional(),
  kv_ip: z.string().optional(),
  kv_port: z.coerce.number().int().optional(),
  kv_connector_extra_config: z.record(z.string(), z.unknown()).optional(),
  kv_connector_module_path: z.string().nullish(),
  enable_permute_local_kv: z.boolean().optional(),
  kv_load_failure_policy: z.enum(["recompute", "fail"]).optional(),
});

export type KvTransferConfig = z.output<typeof kvTransferConfigSchema>;

/** Checks --kv-transfer-config; UCM_ERR_USAGE in vLLM's words, naming the nearest known key. */
export function parseKvTransferConfig(raw: Record<string, unknown>): KvTransferConfig {
  const parsed = kvTransferConfigSchema.safeParse(raw);
  if (!parsed.success) {
    const problems = parsed.error.issues.flatMap(describeIssue);
    throw invalid(problems.length, problems.join("\n"));
  }
  const { kv_connector: connector, kv_role: role } = parsed.data;
  if (connector && !role) {
    const names = roles.map((name) => `'${name}'`).join(", ");
    throw invalid(
      1,
      `  Value error, Please specify kv_role when kv_connector is set, supported roles are (${names})`,
    );
  }
  return parsed.data;
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const near = nearestName(key, Object.keys(kvTransferConfigSchema.shape));
      return `${key}\n  Unexpected keyword argument${near === null ? "" : `; did you mean ${near}?`}`;
    });
  }
  if (issue.code === "invalid_value") {
    const [last, ...rest] = issue.values.map((value) => `'${String(value)}'`).reverse();
    return [`${issue.path.join(".")}\n  Input should be ${rest.reverse().join(", ")} or ${last}`];
  }
  return [`${issue.path.join(".")}\n  ${issue.message}`];
}

function invalid(count: number, text: string): UcmError {
  const errors = count === 1 ? "1 validation error" : `${count} validation errors`;
  return new UcmError(
    "UCM_ERR_USAGE",
    `argument --kv-transfer-config: ${errors} for KVTransferConfig\n${text}`,
    { param: "kv-transfer-config" },
  );
}
