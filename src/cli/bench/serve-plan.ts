import { UcmError } from "../../errors/index.js";
import type { FlagsOf } from "../flags/index.js";
import type { ArrivalPlan } from "./arrivals.js";
import { type MetricName, metricTitles } from "./serve-metrics.js";
import type { ReportOptions } from "./serve-report.js";
import type { RequestTarget } from "./timed-request.js";

type Flags = FlagsOf<"bench serve">;

/** What the flags of `ucm bench serve` come to before anything is sent. */
export interface BenchPlan {
  /** Without a path. */
  baseUrl: string;
  target: Omit<RequestTarget, "model">;
  arrivals: ArrivalPlan;
  report: ReportOptions;
  /** Limits in ms; null for none. */
  goodput: Partial<Record<MetricName, number>> | null;
  metadata: Record<string, string>;
}

/** Checks what flags mean together. UCM_ERR_USAGE in argparse's manner. */
export function planBench(flags: Flags, env: NodeJS.ProcessEnv): BenchPlan {
  const isChat = flags.backend.endsWith("-chat");
  const baseUrl = (flags.baseUrl ?? `http://${flags.host}:${flags.port}`).replace(/\/+$/, "");
  const endpoint = flags.endpoint ?? (isChat ? "/v1/chat/completions" : "/v1/completions");
  if (!endpoint.endsWith(isChat ? "chat/completions" : "completions")) {
    throw usage(`--endpoint ${endpoint} does not fit --backend ${flags.backend}`);
  }
  const key = env.OPENAI_API_KEY;
  return {
    baseUrl,
    target: {
      url: `${baseUrl}${endpoint}`,
      isChat,
      headers: {
        ...(key ? { authorization: `Bearer ${key}` } : {}),
        ...parsePairs("--header", flags.header),
      },
      extraBody: extraBody(flags, isChat),
      insecure: flags.insecure,
    },
    arrivals: {
      rate: flags.requestRate,
      burstiness: flags.burstiness,
      rampUp: rampUpOf(flags),
    },
    report: {
      maxConcurrency: flags.maxConcurrency,
      requestRate: flags.requestRate,
      selected: (flags.percentileMetrics ?? "ttft,tpot,itl").split(",").map(metricName),
      percentiles: flags.metricPercentiles.split(",").map(percentile),
    },
    goodput: goodputOf(flags.goodput),
    metadata: parsePairs("--metadata", flags.metadata),
  };
}

function extraBody(flags: Flags, isChat: boolean): Record<string, unknown> {
  const logprobs = isChat
    ? { logprobs: true, top_logprobs: flags.logprobs }
    : { logprobs: flags.logprobs };
  const given = {
    top_p: flags.topP,
    top_k: flags.topK,
    min_p: flags.minP,
    temperature: flags.temperature,
    frequency_penalty: flags.frequencyPenalty,
    presence_penalty: flags.presencePenalty,
    repetition_penalty: flags.repetitionPenalty,
  };
  return {
    ...(flags.ignoreEos ? { ignore_eos: true } : {}),
    ...(flags.logprobs === null ? {} : logprobs),
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null)),
    ...flags.extraBody,
  };
}

function rampUpOf(flags: Flags): ArrivalPlan["rampUp"] {
  const { rampUpStrategy: strategy, rampUpStartRps: startRps, rampUpEndRps: endRps } = flags;
  if (strategy === null) return null;
  if (flags.requestRate !== Number.POSITIVE_INFINITY) {
    throw usage("When using ramp-up, do not specify --request-rate.");
  }
  if (startRps === null || endRps === null) {
    throw usage(
      "When using --ramp-up-strategy, both --ramp-up-start-rps and --ramp-up-end-rps must be specified",
    );
  }
  return { strategy, startRps, endRps };
}

function metricName(text: string): MetricName {
  const name = text.trim();
  if (Object.hasOwn(metricTitles, name)) return name as MetricName;
  throw usage(
    `argument --percentile-metrics: invalid choice: '${name}' (choose from ${choices(Object.keys(metricTitles))})`,
  );
}

function percentile(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (value >= 0 && value <= 100) return value;
  throw usage(`argument --metric-percentiles: invalid float value: '${text}'`);
}

const goodputMetrics = ["ttft", "tpot", "e2el"];

function goodputOf(given: readonly string[] | null): BenchPlan["goodput"] {
  if (given === null) return null;
  const limits = given.map((text) => {
    const [name = "", limit = ""] = text.split(":");
    if (!goodputMetrics.includes(name)) {
      throw usage(
        `argument --goodput: Invalid metric name found, ${name}: ${limit}. The service level objective name should be one of ${choices(goodputMetrics)}.`,
      );
    }
    if (limit === "" || !(Number(limit) >= 0)) {
      throw usage(
        `argument --goodput: Invalid value found, ${name}: ${limit}. The service level objective value should be non-negative.`,
      );
    }
    return [name, Number(limit)];
  });
  return Object.fromEntries(limits);
}

function choices(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(", ");
}

function parsePairs(flag: string, given: readonly string[] | null): Record<string, string> {
  const pairs = (given ?? []).map((text) => {
    const at = text.indexOf("=");
    if (at < 1) throw usage(`argument ${flag}: invalid value: '${text}' is not KEY=VALUE`);
    return [text.slice(0, at).trim(), text.slice(at + 1).trim()];
  });
  return Object.fromEntries(pairs);
}

function usage(message: string): UcmError {
  return new UcmError("UCM_ERR_USAGE", message);
}
