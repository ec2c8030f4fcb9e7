#include "bindings/communicator_handle.h"

#include "bindings/addon.h"

namespace ucm::bindings {
namespace {

constexpr int64_t kMaxMs = 86'400'000;
/** Of one rank's slot: a large message goes through in pieces that stay in the cache. */
constexpr std::size_t kSlotBytes = 256 * 1024;

}  // namespace

Napi::Function CommunicatorHandle::Define(Napi::Env env) {
    return DefineClass(env, "Communicator",
                       {InstanceMethod<&CommunicatorHandle::AllReduceSum>("allReduceSum"),
                        InstanceMethod<&CommunicatorHandle::GatherColumns>("gatherColumns"),
                        InstanceMethod<&CommunicatorHandle::Broadcast>("broadcast"),
                        InstanceMethod<&CommunicatorHandle::NoteProgress>("noteProgress"),
                        InstanceMethod<&CommunicatorHandle::NoteIdle>("noteIdle"),
                        InstanceMethod<&CommunicatorHandle::Dispose>("dispose")});
}

CommunicatorHandle::CommunicatorHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<CommunicatorHandle>(info) {}

Napi::Value CommunicatorHandle::Create(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "createCommunicator");
    const Napi::Object spec = reader.Object(info[0], "spec");
    const auto integer = [&](const char* name, int64_t low, int64_t high) {
        return reader.Integer(spec.Get(name), name, low, high);
    };
    const auto world_size = static_cast<int>(integer("worldSize", 1, kMaxRanks));
    ShmOptions options;
    options.rank = static_cast<int>(integer("rank", 0, world_size - 1));
    options.timeout = std::chrono::milliseconds(integer("timeoutMs", 1, kMaxMs));
    options.spin = std::chrono::microseconds(integer("spinMicros", 0, 1'000'000));
    const auto descriptor = static_cast<int>(integer("descriptor", 0, INT32_MAX));
    std::unique_ptr<SharedRegion> region;
    ThrowIfError(info.Env(), SharedRegion::Map(descriptor, world_size, kSlotBytes, &region));
    const Napi::Object handle = AddonOf(info.Env()).communicator_class.New({});
    Unwrap(handle)->communicator_ = std::make_unique<ShmCommunicator>(std::move(region), options);
    return handle;
}

ShmCommunicator& CommunicatorHandle::CommunicatorOrThrow(const Reader& reader) const {
    reader.Require(communicator_ != nullptr, "the communicator was disposed");
    return *communicator_;
}

Napi::Value CommunicatorHandle::AllReduceSum(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "allReduceSum");
    ShmCommunicator& communicator = CommunicatorOrThrow(reader);
    ThrowIfError(info.Env(), communicator.AllReduceSum(reader.Array<float>(info[0], "values")));
    return info.Env().Undefined();
}

Napi::Value CommunicatorHandle::GatherColumns(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "gatherColumns");
    ShmCommunicator& communicator = CommunicatorOrThrow(reader);
    const auto part = reader.Array<float>(info[0], "part");
    const int64_t rows = reader.Count(info[1], "rows");
    const int64_t width = reader.Count(info[2], "width");
    const int64_t length = reader.Product(rows, width);
    float* out = info[3].IsNull() ? nullptr : reader.Array<float>(info[3], "out", length).data();
    ThrowIfError(info.Env(), communicator.GatherColumns(part, rows, width, out));
    return info.Env().Undefined();
}

Napi::Value CommunicatorHandle::Broadcast(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "broadcast");
    ShmCommunicator& communicator = CommunicatorOrThrow(reader);
    const auto values = reader.Array<int32_t>(info[0], "values");
    ThrowIfError(info.Env(), communicator.Broadcast({reinterpret_cast<uint8_t*>(values.data()),
                                                     values.size_bytes()}));
    return info.Env().Undefined();
}

Napi::Value CommunicatorHandle::NoteProgress(const Napi::CallbackInfo& info) {
    CommunicatorOrThrow(Reader(info.Env(), "noteProgress")).NoteProgress();
    return info.Env().Undefined();
}

Napi::Value CommunicatorHandle::NoteIdle(const Napi::CallbackInfo& info) {
    CommunicatorOrThrow(Reader(info.Env(), "noteIdle")).NoteIdle();
    return info.Env().Undefined();
}

Napi::Value CommunicatorHandle::Dispose(const Napi::CallbackInfo& info) {
    communicator_.reset();
    return info.Env().Undefined();
}

}  // namespace ucm::bindings
