import type { SamplingFields, TokenText } from "../../openai/index.js";
import type { RouteContext } from "../context.js";
import type { ServerOptions } from "../options.js";
import type { StreamCare } from "../sse.js";

/** Unix time. */
export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** How logprobs name tokens: by text, or as `token_id:N` when asked to or without a tokenizer. */
export function makeTokenText(
  { tokenizer, options }: RouteContext,
  asTokenIds: boolean | null | undefined,
): TokenText {
  if (tokenizer === null || (asTokenIds ?? options.returnTokensAsTokenIds)) {
    return (tokenId) => `token_id:${tokenId}`;
  }
  return (tokenId) => tokenizer.decode([tokenId]);
}

/** What a request asks of decoding, under the server's own rule for JSON. */
export function underRules(
  sampling: SamplingFields,
  { disableAnyWhitespace }: ServerOptions,
): SamplingFields {
  const { grammar = null } = sampling;
  if (!disableAnyWhitespace || grammar?.spec.kind !== "json") return sampling;
  return { ...sampling, grammar: { ...grammar, spec: { ...grammar.spec, anyWhitespace: false } } };
}

interface StreamOptions {
  include_usage?: boolean | null | undefined;
  continuous_usage_stats?: boolean | null | undefined;
}

/** Which parts of a stream carry usage. */
export function wantsUsage(
  asked: StreamOptions | null | undefined,
  { enableForceIncludeUsage }: ServerOptions,
): { atEnd: boolean; onEveryPart: boolean } {
  const atEnd = enableForceIncludeUsage || (asked?.include_usage ?? false);
  return { atEnd, onEveryPart: atEnd && (asked?.continuous_usage_stats ?? false) };
}

/** How streams of this server are looked after. */
export function streamCare({ options }: RouteContext, requestId: string): StreamCare {
  return {
    reportError: (error) => options.reportError(error, requestId),
    stallLimitMs: options.stalledClientTimeoutMs,
  };
}
