#include "bindings/kv_arena_handle.h"

#include <cstring>

#include "bindings/addon.h"
#include "bindings/sparse_attention_handle.h"

namespace ucm::bindings {
namespace {

constexpr int64_t kMaxInt32 = INT32_MAX;

/** Tells our handles from any other wrapped object. */
constexpr napi_type_tag kTag = {0x2f8c1ba94d7e4a06, 0xa1d35e70c92b4f88};

RepresentationShape ReadRepresentation(const Reader& reader, const Napi::Value& value) {
    if (value.IsNull() || value.IsUndefined()) return {};
    const Napi::Object fields = reader.Object(value, "representation");
    return {.kind = reader.OneOf<cpu::Representation>(
                fields.Get("kind"), "representation.kind",
                                 {{"mean", cpu::Representation::kMean},
                                  {"minmax", cpu::Representation::kMinMax},
                                  {"cuboid", cpu::Representation::kCuboid}}),
            .tokens = reader.Integer(fields.Get("tokens"), "representation.tokens", 1, kMaxInt32)};
}

ArenaShape ReadShape(const Reader& reader, const Napi::Object& spec) {
    const auto count = [&](const char* name) {
        return reader.Integer(spec.Get(name), name, 1, kMaxInt32);
    };
    return {.num_blocks = count("numBlocks"),
            .num_layers = count("numLayers"),
            .block_size = count("blockSize"),
            .num_query_heads = count("numQueryHeads"),
            .num_kv_heads = count("numKvHeads"),
            .head_dim = count("headDim"),
            .dtype = reader.FloatDtype(spec.Get("dtype"), "dtype"),
            .representation = ReadRepresentation(reader, spec.Get("representation"))};
}

Rope ReadRope(const Reader& reader, const Napi::Value& value, int64_t head_dim) {
    if (value.IsNull() || value.IsUndefined()) return {};
    const Napi::Object fields = reader.Object(value, "rope");
    const auto inv_freq = reader.Array<double>(fields.Get("invFreq"), "rope.invFreq");
    reader.Require(static_cast<int64_t>(inv_freq.size()) * 2 <= head_dim,
                   "rope.invFreq has " + std::to_string(inv_freq.size()) +
                       " elements, expected at most headDim / 2 = " + std::to_string(head_dim / 2));
    return {.inv_freq = {inv_freq.begin(), inv_freq.end()},
            .scale = reader.Number(fields.Get("scale"), "rope.scale")};
}

}  // namespace

Napi::Function KvArenaHandle::Define(Napi::Env env) {
    return DefineClass(env, "KvArena",
                       {InstanceAccessor<&KvArenaHandle::KvBytes>("kvBytes"),
                        InstanceAccessor<&KvArenaHandle::BytesPerBlock>("bytesPerBlock"),
                        InstanceMethod<&KvArenaHandle::BeginStep>("beginStep"),
                        InstanceMethod<&KvArenaHandle::Forward>("forward"),
                        InstanceMethod<&KvArenaHandle::ReadBlock>("readBlock"),
                        InstanceMethod<&KvArenaHandle::WriteBlock>("writeBlock"),
                        InstanceMethod<&KvArenaHandle::Dispose>("dispose")});
}

KvArenaHandle::KvArenaHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<KvArenaHandle>(info) {
    info.This().As<Napi::Object>().TypeTag(&kTag);
}

std::shared_ptr<KvArena> KvArenaHandle::Share(const Reader& reader, const Napi::Value& arena) {
    const Napi::Object handle = reader.Object(arena, "arena");
    reader.Require(handle.CheckTypeTag(&kTag), "arena is not a KV arena");
    const std::shared_ptr<KvArena>& memory = Unwrap(handle)->arena_;
    reader.Require(memory != nullptr, "the KV arena was disposed");
    return memory;
}

Napi::Value KvArenaHandle::Create(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "createArena");
    const Napi::Object spec = reader.Object(info[0], "spec");
    const ArenaShape shape = ReadShape(reader, spec);
    std::unique_ptr<KvArena> arena;
    ThrowIfError(env, KvArena::Create(shape, &arena));
    Rope rope = ReadRope(reader, spec.Get("rope"), shape.head_dim);
    Addon& addon = AddonOf(env);
    const Napi::Object object = addon.kv_arena_class.New({});
    KvArenaHandle* handle = Unwrap(object);
    handle->pool_ = addon.pool;
    handle->arena_ = std::move(arena);
    handle->attention_ = std::make_unique<PagedAttention>(*handle->arena_, std::move(rope),
                                                          addon.kernels, *handle->pool_);
    return object;
}

const ArenaShape& KvArenaHandle::ShapeOrThrow(const Reader& reader) const {
    reader.Require(arena_ != nullptr, "the KV arena was disposed");
    return arena_->shape();
}

Napi::Value KvArenaHandle::KvBytes(const Napi::CallbackInfo& info) {
    ShapeOrThrow(Reader(info.Env(), "kvBytes"));
    return Napi::Number::New(info.Env(), static_cast<double>(arena_->bytes()));
}

Napi::Value KvArenaHandle::BytesPerBlock(const Napi::CallbackInfo& info) {
    ShapeOrThrow(Reader(info.Env(), "bytesPerBlock"));
    return Napi::Number::New(info.Env(), static_cast<double>(arena_->bytes_per_block()));
}

Napi::Value KvArenaHandle::BeginStep(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "beginStep");
    ShapeOrThrow(reader);
    const Napi::Object batch = reader.Object(info[0], "batch");
    const auto array = [&](const char* name) {
        return reader.Array<int32_t>(batch.Get(name), name);
    };
    BatchView view = {.query_start = array("queryStart"),
                      .context_lens = array("contextLens"),
                      .block_start = array("blockStart"),
                      .block_ids = array("blockIds")};
    Guard(env, [&] {
        std::vector<SparseRow> rows;
        std::shared_ptr<esa::SparseAttention> sparse =
            ReadSparse(reader, batch.Get("sparse"), &view, &rows);
        view.sparse = rows;
        const Status status = attention_->BeginStep(view);
        sparse_ = std::move(sparse);
        ThrowIfError(env, status);
    });
    return env.Undefined();
}

std::shared_ptr<esa::SparseAttention> KvArenaHandle::ReadSparse(
    const Reader& reader, const Napi::Value& value, BatchView* batch,
    std::vector<SparseRow>* rows) const {
    if (value.IsNull() || value.IsUndefined()) return nullptr;
    const Napi::Object fields = reader.Object(value, "sparse");
    const auto sparse = SparseAttentionHandle::Share(reader, fields.Get("attention"));
    reader.Require(&sparse->arena() == arena_.get(),
                   "sparse.attention was made for another arena");
    const auto sequences = static_cast<int64_t>(batch->context_lens.size());
    const auto ids = reader.Array<int32_t>(fields.Get("seqIds"), "sparse.seqIds", sequences);
    batch->positions = reader.Array<int32_t>(fields.Get("positions"), "sparse.positions");
    ThrowIfError(Env(), sparse->BeginStep(ids.first(batch->context_lens.size()), batch->query_start,
                                          rows));
    return sparse;
}

const float* KvArenaHandle::ReadRows(const Reader& reader, const Napi::Object& fields,
                                     const char* name, const char* stride_name, int64_t heads,
                                     int64_t* stride) const {
    const int64_t width = heads * arena_->shape().head_dim;
    *stride = reader.Integer(fields.Get(stride_name), stride_name, width, kMaxInt32);
    const int64_t length = (attention_->rows() - 1) * *stride + width;
    return reader.Array<float>(fields.Get(name), name, length).data();
}

const float* KvArenaHandle::ReadNorm(const Reader& reader, const Napi::Object& fields,
                                     const char* name) const {
    const Napi::Value value = fields.Get(name);
    if (value.IsNull() || value.IsUndefined()) return nullptr;
    return reader.Array<float>(value, name, arena_->shape().head_dim).data();
}

LayerInput KvArenaHandle::ReadLayerInput(const Reader& reader, const Napi::Object& fields) const {
    const ArenaShape& shape = arena_->shape();
    LayerInput input{};
    input.layer = reader.Integer(fields.Get("layer"), "layer", 0, shape.num_layers - 1);
    input.q = ReadRows(reader, fields, "q", "qStride", shape.num_query_heads, &input.q_stride);
    input.k = ReadRows(reader, fields, "k", "kStride", shape.num_kv_heads, &input.k_stride);
    input.v = ReadRows(reader, fields, "v", "vStride", shape.num_kv_heads, &input.v_stride);
    input.q_norm = ReadNorm(reader, fields, "qNorm");
    input.k_norm = ReadNorm(reader, fields, "kNorm");
    input.norm_eps = static_cast<float>(reader.Number(fields.Get("normEps"), "normEps"));
    return input;
}

Napi::Value KvArenaHandle::Forward(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "forward");
    const ArenaShape& shape = ShapeOrThrow(reader);
    const int64_t rows = attention_->rows();
    reader.Require(rows > 0, "no step has begun; call beginStep first");
    const LayerInput input = ReadLayerInput(reader, reader.Object(info[0], "input"));
    const int64_t length = rows * shape.num_query_heads * shape.head_dim;
    float* out = reader.Array<float>(info[1], "out", length).data();
    Guard(env, [&] { attention_->Forward(input, out); });
    return env.Undefined();
}

Napi::Value KvArenaHandle::ReadBlock(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "readBlock");
    const ArenaShape& shape = ShapeOrThrow(reader);
    const int64_t block = reader.Integer(info[0], "blockId", 0, shape.num_blocks - 1);
    const int64_t layer = reader.Integer(info[1], "layer", 0, shape.num_layers - 1);
    const auto bytes = static_cast<std::size_t>(arena_->bytes_per_layer());
    Napi::Uint8Array copy = Napi::Uint8Array::New(info.Env(), bytes);
    std::memcpy(copy.Data(), arena_->Keys(block, layer, 0), bytes);
    return copy;
}

Napi::Value KvArenaHandle::WriteBlock(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "writeBlock");
    const ArenaShape& shape = ShapeOrThrow(reader);
    const int64_t block = reader.Integer(info[0], "blockId", 0, shape.num_blocks - 1);
    const int64_t layer = reader.Integer(info[1], "layer", 0, shape.num_layers - 1);
    const int64_t bytes = arena_->bytes_per_layer();
    const auto data = reader.Array<uint8_t>(info[2], "bytes", bytes);
    std::memcpy(arena_->Keys(block, layer, 0), data.data(), static_cast<std::size_t>(bytes));
    return info.Env().Undefined();
}

Napi::Value KvArenaHandle::Dispose(const Napi::CallbackInfo& info) {
    attention_.reset();
    sparse_.reset();
    arena_.reset();
    pool_.reset();
    return info.Env().Undefined();
}

}  // namespace ucm::bindings
