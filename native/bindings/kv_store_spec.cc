#include "bindings/kv_store_spec.h"

#include <string>

#include "store/dram_store.h"
#include "store/file_store.h"
#include "store/pipeline_store.h"

namespace ucm::bindings {
namespace {

constexpr int64_t kMaxInt32 = INT32_MAX;
constexpr int64_t kMaxThreads = 256;
constexpr int64_t kMaxMs = 3'600'000;
constexpr int64_t kDigestBytes = 32;
constexpr int64_t kDefaultQueueBlocks = 1024;

/** The fields of a part of the spec; an absent field keeps the value that is there. */
class Fields {
  public:
    Fields(const Reader& reader, const Napi::Object& object) : reader_(reader), object_(object) {}

    bool Has(const char* name) const { return !object_.Get(name).IsUndefined(); }
    Napi::Value Get(const char* name) const { return object_.Get(name); }

    template <typename T>
    void Integer(const char* name, int64_t low, int64_t high, T* value) const {
        if (Has(name)) *value = static_cast<T>(reader_.Integer(Get(name), name, low, high));
    }
    void Bytes(const char* name, int64_t* value) const {
        if (Has(name)) *value = reader_.Count(Get(name), name);
    }
    void Milliseconds(const char* name, std::chrono::milliseconds* value) const {
        if (Has(name)) *value = std::chrono::milliseconds(reader_.Integer(Get(name), name, 1, kMaxMs));
    }
    void Boolean(const char* name, bool* value) const {
        if (!Has(name)) return;
        reader_.Require(Get(name).IsBoolean(), std::string(name) + " is not a boolean");
        *value = Get(name).As<Napi::Boolean>().Value();
    }
    void Text(const char* name, std::string* value) const {
        if (Has(name)) *value = reader_.String(Get(name), name);
    }

  private:
    const Reader& reader_;
    const Napi::Object object_;
};

BlockShape ReadShape(const Reader& reader, const Fields& fields) {
    BlockShape shape;
    shape.bytes_per_block = reader.Integer(fields.Get("bytesPerBlock"), "bytesPerBlock", 1,
                                           int64_t{1} << 40);
    shape.num_layers =
        static_cast<int32_t>(reader.Integer(fields.Get("numLayers"), "numLayers", 1, 4096));
    shape.block_size =
        static_cast<int32_t>(reader.Integer(fields.Get("blockSize"), "blockSize", 1, kMaxInt32));
    reader.Require(shape.bytes_per_block % shape.num_layers == 0,
                   "bytesPerBlock " + std::to_string(shape.bytes_per_block) +
                       " is not a multiple of numLayers " + std::to_string(shape.num_layers));
    return shape;
}

std::shared_ptr<DramStore> OpenMemory(const Reader& reader, const BlockShape& shape,
                                      const Fields& fields) {
    DramStoreOptions options{.shape = shape};
    options.capacity_bytes = reader.Count(fields.Get("capacityBytes"), "memory.capacityBytes");
    fields.Integer("threads", 1, kMaxThreads, &options.threads);
    std::shared_ptr<DramStore> store;
    ThrowIfError(fields.Get("capacityBytes").Env(), DramStore::Open(options, &store));
    return store;
}

void ReadBackends(const Reader& reader, const Fields& fields, FileStoreOptions* options) {
    reader.Require(fields.Get("backends").IsArray(), "files.backends is not an array of folders");
    const Napi::Array folders = fields.Get("backends").As<Napi::Array>();
    for (uint32_t i = 0; i < folders.Length(); ++i) {
        const Napi::Value folder = folders[i];
        options->backends.push_back(reader.String(folder, "a folder of files.backends"));
    }
}

void ReadSyncPolicy(const Reader& reader, const Fields& fields, SyncPolicy* sync) {
    std::string policy = "none";
    fields.Text("syncPolicy", &policy);
    reader.Require(policy == "none" || policy == "data",
                   "files.syncPolicy is '" + policy + "', expected none or data");
    *sync = policy == "data" ? SyncPolicy::kData : SyncPolicy::kNone;
}

FileStoreOptions ReadFileOptions(const Reader& reader, const Fields& fields) {
    FileStoreOptions options;
    ReadBackends(reader, fields, &options);
    ReadSyncPolicy(reader, fields, &options.file.sync);
    fields.Integer("threads", 1, kMaxThreads, &options.threads);
    fields.Integer("ioBytes", 4096, int64_t{1} << 30, &options.file.io_bytes);
    fields.Boolean("direct", &options.file.direct);
    fields.Bytes("capacityBytes", &options.capacity_bytes);
    fields.Boolean("recycle", &options.recycle);
    if (fields.Has("recycleRatio")) {
        options.recycle_ratio = reader.Number(fields.Get("recycleRatio"), "files.recycleRatio");
        reader.Require(options.recycle_ratio > 0 && options.recycle_ratio <= 1,
                       "files.recycleRatio is " + std::to_string(options.recycle_ratio) +
                           ", expected more than 0 and at most 1");
    }
    fields.Boolean("readOnly", &options.read_only);
    fields.Milliseconds("operationTimeoutMs", &options.stall_timeout);
    fields.Milliseconds("transferTimeoutMs", &options.total_timeout);
    fields.Integer("breakerFailures", 1, kMaxInt32, &options.breaker.failures);
    fields.Milliseconds("breakerPauseMs", &options.breaker.first_pause);
    fields.Bytes("writeBufferBytes", &options.write_buffer_bytes);
    options.file.io_bytes = block_format::AlignUp(options.file.io_bytes);
    options.breaker.longest_pause =
        std::max(options.breaker.longest_pause, options.breaker.first_pause);
    return options;
}

std::shared_ptr<FileStore> OpenFiles(const Reader& reader, const BlockShape& shape,
                                     const Fields& spec, const Fields& fields) {
    FileStoreOptions options = ReadFileOptions(reader, fields);
    options.shape = shape;
    options.name_space = Digest::From(
        reader.Array<uint8_t>(spec.Get("namespace"), "namespace", kDigestBytes).data());
    spec.Text("about", &options.about);
    std::shared_ptr<FileStore> store;
    ThrowIfError(spec.Get("namespace").Env(), FileStore::Open(options, &store));
    return store;
}

}  // namespace

std::vector<BlockKey> ReadKeys(const Reader& reader, const Napi::Value& value) {
    const auto bytes = reader.Array<uint8_t>(value, "keys");
    reader.Require(bytes.size() % kDigestBytes == 0,
                   "keys has " + std::to_string(bytes.size()) +
                       " bytes, expected 32 for each key");
    std::vector<BlockKey> keys;
    keys.reserve(bytes.size() / kDigestBytes);
    for (std::size_t i = 0; i < bytes.size(); i += kDigestBytes) {
        keys.push_back(BlockKey::From(bytes.data() + i));
    }
    return keys;
}

std::shared_ptr<KvStore> OpenStore(const Reader& reader, const Napi::Value& value) {
    const Fields spec(reader, reader.Object(value, "spec"));
    const BlockShape shape = ReadShape(reader, spec);
    const bool in_memory = spec.Has("memory");
    const bool in_files = spec.Has("files");
    reader.Require(in_memory || in_files, "the spec names neither memory nor files");
    std::shared_ptr<DramStore> memory;
    if (in_memory) {
        memory = OpenMemory(reader, shape,
                            Fields(reader, reader.Object(spec.Get("memory"), "memory")));
    }
    if (!in_files) return memory;
    std::shared_ptr<FileStore> files = OpenFiles(
        reader, shape, spec, Fields(reader, reader.Object(spec.Get("files"), "files")));
    if (!in_memory) return files;
    int64_t queue_blocks = kDefaultQueueBlocks;
    spec.Integer("queueBlocks", 1, kMaxInt32, &queue_blocks);
    return std::make_shared<PipelineStore>(std::move(memory), std::move(files),
                                           static_cast<std::size_t>(queue_blocks));
}

}  // namespace ucm::bindings
