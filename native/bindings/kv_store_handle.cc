#include "bindings/kv_store_handle.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "bindings/addon.h"
#include "bindings/kv_arena_handle.h"
#include "bindings/kv_store_spec.h"
#include "store/block_verify.h"

namespace ucm::bindings {
namespace {

/** Tells our handles from any other wrapped object. */
constexpr napi_type_tag kTag = {0x5b1e93c07a4f4d26, 0x8e62d90bc3f7a151};

constexpr int64_t kMaxMs = 3'600'000;
constexpr int64_t kDefaultPatienceMs = 10'000;
/** Numbers of transfers that are kept while nobody takes them: three each. */
constexpr std::size_t kMaxTransfers = 3 * 10'000;

/** What JS is told of how long it took. */
enum class TransferKind : uint8_t { kLoad = 0, kDump = 1, kNone = 2 };

template <typename Code>
std::vector<uint8_t> BytesOf(const std::vector<Code>& codes) {
    std::vector<uint8_t> bytes;
    bytes.reserve(codes.size());
    for (const Code code : codes) bytes.push_back(static_cast<uint8_t>(code));
    return bytes;
}

Napi::Uint8Array ToArray(Napi::Env env, const std::vector<uint8_t>& bytes) {
    Napi::Uint8Array array = Napi::Uint8Array::New(env, bytes.size());
    std::copy(bytes.begin(), bytes.end(), array.Data());
    return array;
}

/** Blocks of an arena that keys go to or come from. */
struct ArenaBlocks {
    std::shared_ptr<KvArena> arena;
    std::vector<BlockKey> keys;
    std::vector<uint8_t*> data;
};

ArenaBlocks ReadBlocks(const Reader& reader, const BlockShape& shape,
                       const Napi::CallbackInfo& info) {
    ArenaBlocks blocks{KvArenaHandle::Share(reader, info[1]), ReadKeys(reader, info[0]), {}};
    const int64_t bytes = blocks.arena->bytes_per_block();
    reader.Require(bytes == shape.bytes_per_block,
                   "the arena's blocks have " + std::to_string(bytes) + " bytes, the store's " +
                       std::to_string(shape.bytes_per_block));
    const auto ids = reader.Array<int32_t>(info[2], "blockIds");
    reader.Require(ids.size() == blocks.keys.size(),
                   "there are " + std::to_string(blocks.keys.size()) + " keys, but " +
                       std::to_string(ids.size()) + " blockIds");
    std::vector<bool> seen(static_cast<std::size_t>(blocks.arena->shape().num_blocks));
    for (const int32_t id : ids) {
        const bool valid = id >= 0 && id < blocks.arena->shape().num_blocks &&
                           !seen[static_cast<std::size_t>(id)];
        reader.Require(valid, "blockIds has " + std::to_string(id) +
                                  ", expected different blocks of the arena");
        seen[static_cast<std::size_t>(id)] = true;
        blocks.data.push_back(blocks.arena->Keys(id, 0, 0));
    }
    return blocks;
}

BlockStatus StatusOf(BlockReader::Outcome outcome) {
    switch (outcome) {
        case BlockReader::Outcome::kDone: return BlockStatus::kOk;
        case BlockReader::Outcome::kMissing: return BlockStatus::kMissing;
        case BlockReader::Outcome::kCorrupt: return BlockStatus::kCorrupt;
        default: return BlockStatus::kFailed;
    }
}

}  // namespace

/** One call that JS waits for; made and deleted on the JS thread. */
struct KvStoreHandle::Operation {
    explicit Operation(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

    Napi::Promise::Deferred deferred;
    /** Kept until the operation ends, for the threads that write to it. */
    std::shared_ptr<KvArena> arena;
    Napi::ObjectReference progress;
    TransferKind kind = TransferKind::kNone;
    const std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
    std::vector<uint8_t> result;
};

/** The way from the store's threads to JS; every completion in flight holds it. */
class KvStoreHandle::Channel : public std::enable_shared_from_this<Channel> {
  public:
    explicit Channel(Napi::Env env)
        : function_(Napi::ThreadSafeFunction::New(
              env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "ucm-store", 0, 1)) {
        function_.Unref(env);
        // Node deletes the function when the environment ends, whoever still holds it. Hooks run in
        // reverse order, so this one comes before that.
        env.AddCleanupHook([gate = gate_] {
            const std::lock_guard lock(gate->mutex);
            gate->open = false;
        });
    }
    ~Channel() {
        const std::lock_guard lock(gate_->mutex);
        if (gate_->open) function_.Release();
    }
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

    /**
     * On the JS thread: the promise of what `start(operation, done)` begins and `done(codes)` ends, on
     * any thread. The event loop stays alive until then.
     */
    template <typename Code, typename Begin>
    Napi::Value Start(Napi::Env env, Begin begin, TransferKind kind = TransferKind::kNone) {
        auto* operation = new Operation(env);
        operation->kind = kind;
        const Napi::Promise promise = operation->deferred.Promise();
        if (pending_++ == 0) function_.Ref(env);
        begin(*operation, [self = shared_from_this(), operation](const std::vector<Code>& codes) {
            self->End(operation, BytesOf(codes));
        });
        return promise;
    }

    void Report(std::atomic_ref<int32_t> progress, int32_t layers) {
        {
            const std::lock_guard lock(mutex_);
            progress.store(layers, std::memory_order_release);
        }
        changed_.notify_all();
    }

    bool Wait(std::atomic_ref<int32_t> progress, int32_t layers, std::chrono::milliseconds time) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(
            lock, time, [&] { return progress.load(std::memory_order_acquire) >= layers; });
    }

    /** The transfers that ended since the last call: kind, blocks and microseconds of each. */
    std::vector<double> TakeTransfers() {
        const std::lock_guard lock(mutex_);
        return std::exchange(transfers_, {});
    }

  private:
    /** Notes how long a transfer took, as its thread sees it: JS may be busy when it ends. */
    void Note(const Operation& operation, const std::vector<uint8_t>& result) {
        if (operation.kind == TransferKind::kNone) return;
        const auto blocks = std::count(result.begin(), result.end(),
                                       static_cast<uint8_t>(BlockStatus::kOk));
        const std::chrono::duration<double, std::micro> took =
            std::chrono::steady_clock::now() - operation.started;
        const std::lock_guard lock(mutex_);
        if (blocks == 0 || transfers_.size() >= kMaxTransfers) return;
        transfers_.push_back(static_cast<double>(operation.kind));
        transfers_.push_back(static_cast<double>(blocks));
        transfers_.push_back(took.count());
    }

    /** Once per operation. When JS is gone already, nobody is left to be told. */
    void End(Operation* operation, std::vector<uint8_t> result) {
        const std::lock_guard lock(gate_->mutex);
        if (!gate_->open) return;
        Note(*operation, result);
        operation->result = std::move(result);
        function_.NonBlockingCall(
            operation, [self = shared_from_this()](Napi::Env env, Napi::Function, Operation* ended) {
                self->Resolve(env, ended);
            });
    }

    void Resolve(Napi::Env env, Operation* ended) {
        const std::unique_ptr<Operation> operation(ended);
        if (--pending_ == 0) function_.Unref(env);
        operation->deferred.Resolve(ToArray(env, operation->result));
    }

    /** Closed when the environment ends, which the channel may outlive. */
    struct Gate {
        std::mutex mutex;
        bool open = true;
    };

    const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
    Napi::ThreadSafeFunction function_;
    /** Only used on the JS thread. */
    int64_t pending_ = 0;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<double> transfers_;
};

Napi::Function KvStoreHandle::Define(Napi::Env env) {
    return DefineClass(env, "KvStore",
                       {Method<&KvStoreHandle::Lookup>("lookup"),
                        Method<&KvStoreHandle::LookupMemory>("lookupMemory"),
                        Method<&KvStoreHandle::Load>("load"),
                        Method<&KvStoreHandle::WaitProgress>("waitProgress"),
                        Method<&KvStoreHandle::Dump>("dump"),
                        Method<&KvStoreHandle::Pin>("pin"),
                        Method<&KvStoreHandle::Unpin>("unpin"),
                        Method<&KvStoreHandle::Forget>("forget"),
                        Method<&KvStoreHandle::Stats>("stats"),
                        Method<&KvStoreHandle::TakeTransfers>("takeTransfers"),
                        Method<&KvStoreHandle::Close>("close")});
}

KvStoreHandle::KvStoreHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<KvStoreHandle>(info) {
    info.This().As<Napi::Object>().TypeTag(&kTag);
}

std::shared_ptr<KvStore> KvStoreHandle::Share(const Reader& reader, const Napi::Value& store) {
    const Napi::Object handle = reader.Object(store, "store");
    reader.Require(handle.CheckTypeTag(&kTag), "store is not a KV store");
    const std::shared_ptr<KvStore>& opened = Unwrap(handle)->store_;
    reader.Require(opened != nullptr, "the store was closed");
    return opened;
}

Napi::Value KvStoreHandle::Create(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "createStore");
    std::shared_ptr<KvStore> store = OpenStore(reader, info[0]);
    const Napi::Object object = AddonOf(info.Env()).kv_store_class.New({});
    KvStoreHandle* handle = Unwrap(object);
    handle->store_ = std::move(store);
    handle->channel_ = std::make_shared<Channel>(info.Env());
    return object;
}

KvStore& KvStoreHandle::StoreOrThrow(const Reader& reader) const {
    reader.Require(store_ != nullptr, "the store was closed");
    return *store_;
}

Napi::Value KvStoreHandle::Lookup(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "lookup");
    KvStore& store = StoreOrThrow(reader);
    std::vector<BlockKey> keys = ReadKeys(reader, info[0]);
    return channel_->Start<Presence>(info.Env(), [&](Operation&, LookupDone done) {
        store.Lookup(std::move(keys), std::move(done));
    });
}

Napi::Value KvStoreHandle::LookupMemory(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "lookupMemory");
    KvStore& store = StoreOrThrow(reader);
    return ToArray(info.Env(), BytesOf(store.LookupMemory(ReadKeys(reader, info[0]))));
}

Napi::Value KvStoreHandle::Load(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "load");
    KvStore& store = StoreOrThrow(reader);
    ArenaBlocks blocks = ReadBlocks(reader, store.shape(), info);
    const bool reports = !info[3].IsUndefined();
    int32_t* layers = reports ? reader.Array<int32_t>(info[3], "progress", 1).data() : nullptr;
    std::vector<LoadTarget> targets;
    for (std::size_t i = 0; i < blocks.keys.size(); ++i) {
        targets.push_back({blocks.keys[i], blocks.data[i]});
    }
    return channel_->Start<BlockStatus>(info.Env(), [&](Operation& operation, BlocksDone done) {
        operation.arena = std::move(blocks.arena);
        LoadBatch::Progress progress;
        if (reports) {
            operation.progress = Napi::Persistent(info[3].As<Napi::Object>());
            std::atomic_ref(*layers).store(0);
            progress = [channel = channel_, layers](int32_t ready) {
                channel->Report(std::atomic_ref(*layers), ready);
            };
        }
        store.Load(std::make_shared<LoadBatch>(std::move(targets), store.shape().num_layers,
                                               std::move(progress), std::move(done)));
    }, TransferKind::kLoad);
}

Napi::Value KvStoreHandle::WaitProgress(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "waitProgress");
    StoreOrThrow(reader);
    const auto progress = reader.Array<int32_t>(info[0], "progress", 1);
    const int64_t layers = reader.Integer(info[1], "layers", 0, INT32_MAX);
    const int64_t timeout = reader.Integer(info[2], "timeoutMs", 0, kMaxMs);
    return Napi::Boolean::New(
        info.Env(), channel_->Wait(std::atomic_ref(progress[0]), static_cast<int32_t>(layers),
                                   std::chrono::milliseconds(timeout)));
}

Napi::Value KvStoreHandle::Dump(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "dump");
    KvStore& store = StoreOrThrow(reader);
    const ArenaBlocks blocks = ReadBlocks(reader, store.shape(), info);
    std::vector<DumpSource> sources;
    for (std::size_t i = 0; i < blocks.keys.size(); ++i) {
        sources.push_back({blocks.keys[i], blocks.data[i]});
    }
    return channel_->Start<BlockStatus>(info.Env(), [&](Operation&, BlocksDone done) {
        store.Dump(sources, std::move(done));
    }, TransferKind::kDump);
}

Napi::Value KvStoreHandle::Pin(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "pin");
    KvStore& store = StoreOrThrow(reader);
    std::vector<BlockKey> keys = ReadKeys(reader, info[0]);
    return channel_->Start<BlockStatus>(info.Env(), [&](Operation&, BlocksDone done) {
        store.Pin(std::move(keys), std::move(done));
    });
}

Napi::Value KvStoreHandle::Unpin(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "unpin");
    StoreOrThrow(reader).Unpin(ReadKeys(reader, info[0]));
    return info.Env().Undefined();
}

Napi::Value KvStoreHandle::Forget(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "forget");
    KvStore& store = StoreOrThrow(reader);
    std::vector<BlockKey> keys = ReadKeys(reader, info[0]);
    return channel_->Start<BlockStatus>(info.Env(), [&](Operation&, BlocksDone done) {
        store.Forget(std::move(keys), std::move(done));
    });
}

Napi::Value KvStoreHandle::Stats(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "stats");
    const Napi::Env env = info.Env();
    Napi::Object stats = Napi::Object::New(env);
    for (const TierStats& tier : StoreOrThrow(reader).Stats()) {
        Napi::Object values = Napi::Object::New(env);
        for (const auto& [name, value] : tier.values) {
            values.Set(name, Napi::Number::New(env, static_cast<double>(value)));
        }
        stats.Set(tier.tier, values);
    }
    return stats;
}

Napi::Value KvStoreHandle::TakeTransfers(const Napi::CallbackInfo& info) {
    const std::vector<double> transfers = channel_->TakeTransfers();
    Napi::Float64Array array = Napi::Float64Array::New(info.Env(), transfers.size());
    std::copy(transfers.begin(), transfers.end(), array.Data());
    return array;
}

/** On a thread of its own: it waits for devices, and JS must not. */
Napi::Value KvStoreHandle::Close(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "close");
    int64_t patience = kDefaultPatienceMs;
    if (!info[0].IsUndefined()) patience = reader.Integer(info[0], "timeoutMs", 0, kMaxMs);
    if (store_ == nullptr) {
        const auto closed = Napi::Promise::Deferred::New(info.Env());
        closed.Resolve(info.Env().Undefined());
        return closed.Promise();
    }
    return channel_->Start<BlockStatus>(info.Env(), [&](Operation&, BlocksDone done) {
        std::thread([store = std::exchange(store_, nullptr), done = std::move(done),
                     patience]() mutable {
            store->Close(std::chrono::milliseconds(patience));
            store.reset();
            done({});
        }).detach();
    });
}

Napi::Value KvStoreHandle::VerifyFile(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "verifyBlockFile");
    const BlockVerdict verdict =
        VerifyBlockFile(FileSystem::Posix(), reader.String(info[0], "path"));
    Napi::Object result = Napi::Object::New(env);
    result.Set("status", Napi::Number::New(env, static_cast<double>(StatusOf(verdict.outcome))));
    result.Set("inode", Napi::BigInt::New(env, verdict.inode));
    result.Set("fileBytes", Napi::Number::New(env, static_cast<double>(verdict.file_bytes)));
    if (verdict.outcome != BlockReader::Outcome::kDone) return result;
    const block_format::HeaderFields& fields = verdict.fields;
    result.Set("key", Napi::String::New(env, fields.key.Hex()));
    result.Set("namespace", Napi::String::New(env, fields.name_space.Hex()));
    result.Set("bytesPerBlock",
               Napi::Number::New(env, static_cast<double>(fields.shape.bytes_per_block)));
    result.Set("numLayers", Napi::Number::New(env, fields.shape.num_layers));
    result.Set("blockSize", Napi::Number::New(env, fields.shape.block_size));
    return result;
}

}  // namespace ucm::bindings
