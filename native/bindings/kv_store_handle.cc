#include "bindings/kv_store_handle.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "bindings/addon.h"
#include "bindings/kv_arena_handle.h"
#include "bindings/kv_store_spec.h"

namespace ucm::bindings {
namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr int64_t kMaxMs = 3'600'000;
constexpr int64_t kDefaultPatienceMs = 10'000;

std::vector<BlockKey> ReadKeys(const Reader& reader, const Napi::Value& value) {
    const auto bytes = reader.Array<uint8_t>(value, "keys");
    reader.Require(bytes.size() % kKeyBytes == 0,
                   "keys has " + std::to_string(bytes.size()) +
                       " bytes, expected 32 for each key");
    std::vector<BlockKey> keys;
    keys.reserve(bytes.size() / kKeyBytes);
    for (std::size_t i = 0; i < bytes.size(); i += kKeyBytes) {
        keys.push_back(BlockKey::From(bytes.data() + i));
    }
    return keys;
}

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

}  // namespace

/** One call that JS waits for; made and deleted on the JS thread. */
struct KvStoreHandle::Operation {
    explicit Operation(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

    Napi::Promise::Deferred deferred;
    /** Kept until the operation ends, for the threads that write to it. */
    std::shared_ptr<KvArena> arena;
    Napi::ObjectReference progress;
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

    /** On the JS thread. The event loop stays alive until the operation ends. */
    Operation* Begin(Napi::Env env) {
        if (pending_++ == 0) function_.Ref(env);
        return new Operation(env);
    }

    /** On any thread, once per operation. When JS is gone already, nobody is left to be told. */
    void End(Operation* operation, std::vector<uint8_t> result) {
        const std::lock_guard lock(gate_->mutex);
        if (!gate_->open) return;
        operation->result = std::move(result);
        function_.NonBlockingCall(
            operation, [self = shared_from_this()](Napi::Env env, Napi::Function, Operation* ended) {
                self->Resolve(env, ended);
            });
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

  private:
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
};

Napi::Function KvStoreHandle::Define(Napi::Env env) {
    return DefineClass(env, "KvStore",
                       {InstanceMethod<&KvStoreHandle::Lookup>("lookup"),
                        InstanceMethod<&KvStoreHandle::LookupMemory>("lookupMemory"),
                        InstanceMethod<&KvStoreHandle::Load>("load"),
                        InstanceMethod<&KvStoreHandle::WaitProgress>("waitProgress"),
                        InstanceMethod<&KvStoreHandle::Dump>("dump"),
                        InstanceMethod<&KvStoreHandle::Pin>("pin"),
                        InstanceMethod<&KvStoreHandle::Unpin>("unpin"),
                        InstanceMethod<&KvStoreHandle::Forget>("forget"),
                        InstanceMethod<&KvStoreHandle::Stats>("stats"),
                        InstanceMethod<&KvStoreHandle::Close>("close")});
}

KvStoreHandle::KvStoreHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<KvStoreHandle>(info) {}

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
    Operation* operation = channel_->Begin(info.Env());
    const Napi::Promise promise = operation->deferred.Promise();
    store.Lookup(std::move(keys),
                 [channel = channel_, operation](const std::vector<Presence>& found) {
                     channel->End(operation, BytesOf(found));
                 });
    return promise;
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
    Operation* operation = channel_->Begin(info.Env());
    const Napi::Promise promise = operation->deferred.Promise();
    operation->arena = std::move(blocks.arena);
    LoadBatch::Progress progress;
    if (reports) {
        operation->progress = Napi::Persistent(info[3].As<Napi::Object>());
        std::atomic_ref(*layers).store(0);
        progress = [channel = channel_, layers](int32_t ready) {
            channel->Report(std::atomic_ref(*layers), ready);
        };
    }
    store.Load(std::make_shared<LoadBatch>(
        std::move(targets), store.shape().num_layers, std::move(progress),
        [channel = channel_, operation](const std::vector<BlockStatus>& statuses) {
            channel->End(operation, BytesOf(statuses));
        }));
    return promise;
}

Napi::Value KvStoreHandle::WaitProgress(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "waitProgress");
    reader.Require(channel_ != nullptr, "the store was closed");
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
    Operation* operation = channel_->Begin(info.Env());
    const Napi::Promise promise = operation->deferred.Promise();
    store.Dump(sources, [channel = channel_, operation](const std::vector<BlockStatus>& statuses) {
        channel->End(operation, BytesOf(statuses));
    });
    return promise;
}

Napi::Value KvStoreHandle::Pin(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "pin");
    KvStore& store = StoreOrThrow(reader);
    std::vector<BlockKey> keys = ReadKeys(reader, info[0]);
    Operation* operation = channel_->Begin(info.Env());
    const Napi::Promise promise = operation->deferred.Promise();
    store.Pin(std::move(keys),
              [channel = channel_, operation](const std::vector<BlockStatus>& statuses) {
                  channel->End(operation, BytesOf(statuses));
              });
    return promise;
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
    Operation* operation = channel_->Begin(info.Env());
    const Napi::Promise promise = operation->deferred.Promise();
    store.Forget(std::move(keys),
                 [channel = channel_, operation](const std::vector<BlockStatus>& statuses) {
                     channel->End(operation, BytesOf(statuses));
                 });
    return promise;
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

/** On a thread of its own: it waits for devices, and JS must not. */
Napi::Value KvStoreHandle::Close(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "close");
    int64_t patience = kDefaultPatienceMs;
    if (!info[0].IsUndefined()) patience = reader.Integer(info[0], "timeoutMs", 0, kMaxMs);
    StoreOrThrow(reader);
    Operation* operation = channel_->Begin(info.Env());
    const Napi::Promise promise = operation->deferred.Promise();
    std::thread([store = std::exchange(store_, nullptr), channel = channel_, operation,
                 patience]() mutable {
        store->Close(std::chrono::milliseconds(patience));
        store.reset();
        channel->End(operation, {});
    }).detach();
    return promise;
}

}  // namespace ucm::bindings
