#include "bindings/sparse_attention_handle.h"

#include <algorithm>
#include <vector>

#include "bindings/addon.h"
#include "bindings/kv_arena_handle.h"
#include "bindings/kv_store_handle.h"
#include "bindings/kv_store_spec.h"

namespace ucm::bindings {
namespace {

constexpr int64_t kMaxMs = 3'600'000;
constexpr int64_t kMaxInt32 = INT32_MAX;

/** Tells our handles from any other wrapped object. */
constexpr napi_type_tag kTag = {0xd3407c5e19a84bf1, 0x92c6a8f05be3174d};

esa::SparseOptions ReadOptions(const Reader& reader, const Napi::Object& spec) {
    const auto integer = [&](const char* name, int64_t low, int64_t high) {
        return reader.Integer(spec.Get(name), name, low, high);
    };
    esa::SparseOptions options;
    options.score =
        reader.OneOf<esa::Score>(spec.Get("score"), "score", {{"representation", esa::Score::kRepresentation},
                                                  {"random", esa::Score::kRandom},
                                                  {"oracle", esa::Score::kOracle}});
    options.first_by_mass =
        reader.OneOf<bool>(spec.Get("firstBy"), "firstBy", {{"mass", true}, {"score", false}});
    options.group_reduce =
        reader.OneOf<esa::GroupReduce>(spec.Get("groupReduce"), "groupReduce",
                     {{"max", esa::GroupReduce::kMax}, {"mean", esa::GroupReduce::kMean}});
    options.dense_layers = integer("denseLayers", 0, kMaxInt32);
    options.stride = integer("stride", 1, kMaxInt32);
    options.next_share = reader.Number(spec.Get("nextShare"), "nextShare");
    options.drift_cosine = reader.Number(spec.Get("driftCosine"), "driftCosine");
    options.recall_every = integer("recallEvery", 0, kMaxInt32);
    options.wait = std::chrono::milliseconds(integer("waitMs", 0, kMaxMs));
    options.seed = static_cast<uint64_t>(reader.Count(spec.Get("seed"), "seed"));
    return options;
}

Napi::Value ToArray(Napi::Env env, const std::vector<int32_t>& values) {
    Napi::Int32Array array = Napi::Int32Array::New(env, values.size());
    std::copy(values.begin(), values.end(), array.Data());
    return array;
}

int32_t ReadId(const Reader& reader, const Napi::Value& value) {
    return static_cast<int32_t>(reader.Integer(value, "seqId", 0, kMaxInt32));
}

}  // namespace

Napi::Function SparseAttentionHandle::Define(Napi::Env env) {
    using Handle = SparseAttentionHandle;
    return DefineClass(env, "SparseAttention",
                       {Method<&Handle::Watch>("watch"), Method<&Handle::Enter>("enter"),
                        Method<&Handle::Settle>("settle"),
                        Method<&Handle::FinishStep>("finishStep"),
                        Method<&Handle::Leave>("leave"),
                        Method<&Handle::TakeRecalls>("takeRecalls"),
                        Method<&Handle::Selection>("selection"), Method<&Handle::Stats>("stats"),
                        Method<&Handle::Dispose>("dispose")});
}

SparseAttentionHandle::SparseAttentionHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<SparseAttentionHandle>(info) {
    info.This().As<Napi::Object>().TypeTag(&kTag);
}

SparseAttentionHandle::~SparseAttentionHandle() {
    if (attention_ != nullptr) attention_->Dispose();
}

std::shared_ptr<esa::SparseAttention> SparseAttentionHandle::Share(const Reader& reader,
                                                                   const Napi::Value& attention) {
    const Napi::Object handle = reader.Object(attention, "sparse.attention");
    reader.Require(handle.CheckTypeTag(&kTag), "sparse.attention is not sparse attention");
    reader.Require(Unwrap(handle)->attention_ != nullptr, "the sparse attention was disposed");
    return Unwrap(handle)->attention_;
}

Napi::Value SparseAttentionHandle::Create(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "createSparseAttention");
    const esa::SparseOptions options = ReadOptions(reader, reader.Object(info[2], "spec"));
    Addon& addon = AddonOf(env);
    std::shared_ptr<esa::SparseAttention> attention;
    ThrowIfError(env, esa::SparseAttention::Create(KvArenaHandle::Share(reader, info[0]),
                                                   KvStoreHandle::Share(reader, info[1]), options,
                                                   addon.kernels, addon.pool, &attention));
    const Napi::Object object = addon.sparse_attention_class.New({});
    Unwrap(object)->attention_ = std::move(attention);
    return object;
}

esa::SparseAttention& SparseAttentionHandle::AttentionOrThrow(const Reader& reader) const {
    reader.Require(attention_ != nullptr, "the sparse attention was disposed");
    return *attention_;
}

Napi::Value SparseAttentionHandle::Watch(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "watch");
    esa::SparseAttention& attention = AttentionOrThrow(reader);
    const Napi::Object fields = reader.Object(info[1], "budget");
    const auto blocks = [&](const char* name) {
        return reader.Integer(fields.Get(name), name, 0, kMaxInt32);
    };
    const esa::SparseBudget budget = {
        .init = blocks("init"), .candidates = blocks("candidates"), .top_k = blocks("topK")};
    const std::vector<BlockKey> keys = ReadKeys(reader, info[3]);
    ThrowIfError(info.Env(), attention.Watch(ReadId(reader, info[0]), budget,
                                             reader.Array<int32_t>(info[2], "blockIds"), keys));
    return info.Env().Undefined();
}

Napi::Value SparseAttentionHandle::Enter(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "enter");
    ThrowIfError(info.Env(),
                 AttentionOrThrow(reader).Enter(ReadId(reader, info[0]),
                                                reader.Array<int32_t>(info[1], "slots")));
    return info.Env().Undefined();
}

Napi::Value SparseAttentionHandle::Settle(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "settle");
    esa::SparseAttention& attention = AttentionOrThrow(reader);
    return ToArray(info.Env(), attention.Settle(reader.Array<int32_t>(info[0], "seqIds")));
}

Napi::Value SparseAttentionHandle::FinishStep(const Napi::CallbackInfo& info) {
    AttentionOrThrow(Reader(info.Env(), "finishStep")).FinishStep();
    return info.Env().Undefined();
}

Napi::Value SparseAttentionHandle::Leave(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "leave");
    AttentionOrThrow(reader).Leave(reader.Array<int32_t>(info[0], "seqIds"));
    return info.Env().Undefined();
}

Napi::Value SparseAttentionHandle::TakeRecalls(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "takeRecalls");
    const std::vector<float> recalls = AttentionOrThrow(reader).TakeRecalls();
    Napi::Float32Array array = Napi::Float32Array::New(info.Env(), recalls.size());
    std::copy(recalls.begin(), recalls.end(), array.Data());
    return array;
}

Napi::Value SparseAttentionHandle::Selection(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "selection");
    const esa::SparseAttention& attention = AttentionOrThrow(reader);
    const int64_t layers = attention.arena().shape().num_layers;
    std::vector<int32_t> candidates;
    ThrowIfError(info.Env(),
                 attention.Chosen(ReadId(reader, info[0]),
                                  reader.Integer(info[1], "layer", 0, layers - 1), &candidates));
    return ToArray(info.Env(), candidates);
}

Napi::Value SparseAttentionHandle::Stats(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const esa::SparseAttention& attention = AttentionOrThrow(Reader(env, "stats"));
    Napi::Object stats = Napi::Object::New(env);
    const auto set = [&](const char* name, int64_t value) {
        stats.Set(name, Napi::Number::New(env, static_cast<double>(value)));
    };
#define UCM_SPARSE_SET(id, name) set(name, attention.counters().Get(esa::Counter::id));
    UCM_SPARSE_COUNTERS(UCM_SPARSE_SET)
#undef UCM_SPARSE_SET
    set("representationBytes", attention.representation_bytes());
    set("denseLayerBytes", attention.dense_layer_bytes());
    set("sequences", attention.sequences());
    return stats;
}

Napi::Value SparseAttentionHandle::Dispose(const Napi::CallbackInfo& info) {
    if (attention_ != nullptr) attention_->Dispose();
    attention_.reset();
    return info.Env().Undefined();
}

}  // namespace ucm::bindings
