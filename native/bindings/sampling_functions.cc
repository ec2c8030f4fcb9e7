#include <algorithm>

#include "bindings/addon.h"
#include "bindings/arguments.h"

namespace ucm::bindings {
namespace {

std::span<const float> ReadLogits(const Reader& reader, const Napi::Value& value) {
    const auto logits = reader.Array<float>(value, "logits");
    reader.Require(
        !logits.empty() && logits.size() <= INT32_MAX,
        "logits has " + std::to_string(logits.size()) + " elements, expected 1 to 2147483647");
    return logits;
}

Napi::Value BindFindNonFinite(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "findNonFinite");
    const int64_t index = AddonOf(info.Env()).sampler.FindNonFinite(ReadLogits(reader, info[0]));
    return Napi::Number::New(info.Env(), static_cast<double>(index));
}

Napi::Value BindArgmax(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "argmax");
    const auto logits = ReadLogits(reader, info[0]);
    const int64_t index = AddonOf(info.Env()).sampler.Argmax(logits);
    return Napi::Number::New(info.Env(), static_cast<double>(index));
}

/** A number within [low, high], or without `high` itself when `open`. */
double ReadRatio(const Reader& reader, const Napi::Object& fields, const char* name, double low,
                 bool open) {
    const double value = reader.Number(fields.Get(name), name);
    reader.Require(value >= low && (open ? value < 1.0 : value <= 1.0),
                   std::string(name) + " is " + std::to_string(value) + ", expected 0 to 1" +
                       (open ? " without 1" : ""));
    return value;
}

Napi::Value BindDraw(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "draw");
    const auto logits = ReadLogits(reader, info[0]);
    const Napi::Object fields = reader.Object(info[1], "spec");
    const double temperature = reader.Number(fields.Get("temperature"), "temperature");
    reader.Require(temperature > 0.0, "temperature is " + std::to_string(temperature) +
                                          ", expected more than 0; use argmax for 0");
    const DrawSpec spec = {
        .temperature = static_cast<float>(temperature),
        .top_k = reader.Integer(fields.Get("topK"), "topK", -1, INT32_MAX),
        .top_p = ReadRatio(reader, fields, "topP", 0.0, false),
        .min_p = static_cast<float>(ReadRatio(reader, fields, "minP", 0.0, false)),
        .uniform = ReadRatio(reader, fields, "uniform", 0.0, true)};
    int64_t token = 0;
    ThrowIfError(info.Env(), AddonOf(info.Env()).sampler.Draw(logits, spec, &token));
    return Napi::Number::New(info.Env(), static_cast<double>(token));
}

Napi::Value BindTopLogprobs(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "topLogprobs");
    const auto logits = ReadLogits(reader, info[0]);
    const int64_t k = reader.Integer(info[1], "k", -1, INT32_MAX);
    const int64_t token =
        reader.Integer(info[2], "tokenId", 0, static_cast<int64_t>(logits.size()) - 1);
    TopLogprobs top;
    ThrowIfError(env, AddonOf(env).sampler.Top(logits, k, token, &top));
    Napi::Int32Array ids = Napi::Int32Array::New(env, top.token_ids.size());
    std::copy(top.token_ids.begin(), top.token_ids.end(), ids.Data());
    Napi::Float32Array logprobs = Napi::Float32Array::New(env, top.logprobs.size());
    std::copy(top.logprobs.begin(), top.logprobs.end(), logprobs.Data());
    Napi::Object result = Napi::Object::New(env);
    result.Set("tokenIds", ids);
    result.Set("logprobs", logprobs);
    result.Set("tokenLogprob", Napi::Number::New(env, top.token_logprob));
    result.Set("tokenRank", Napi::Number::New(env, static_cast<double>(top.token_rank)));
    return result;
}

}  // namespace

void ExportSamplingFunctions(Napi::Env env, Napi::Object exports) {
    Export<BindFindNonFinite>(env, exports, "findNonFinite");
    Export<BindArgmax>(env, exports, "argmax");
    Export<BindDraw>(env, exports, "draw");
    Export<BindTopLogprobs>(env, exports, "topLogprobs");
}

}  // namespace ucm::bindings
