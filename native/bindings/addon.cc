#include "bindings/addon.h"

#include "bindings/communicator_handle.h"
#include "bindings/file_mapping_handle.h"
#include "bindings/int8_handles.h"
#include "bindings/kv_arena_handle.h"
#include "bindings/kv_store_handle.h"
#include "bindings/sparse_attention_handle.h"
#include "common/heap.h"
#include "common/process.h"
#include "cpu/dispatch.h"

namespace ucm::bindings {
namespace {

constexpr int64_t kMaxThreads = 1024;

Napi::Value BindAvailableIsas(const Napi::CallbackInfo& info) {
    Napi::Array names = Napi::Array::New(info.Env());
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        names.Set(names.Length(), Napi::String::New(info.Env(), kernels->name));
    }
    return names;
}

Napi::Value BindIsa(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), AddonOf(info.Env()).kernels.name);
}

Napi::Value BindSetThreads(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "setThreads");
    const int64_t threads = reader.Integer(info[0], "threads", 1, kMaxThreads);
    AddonOf(info.Env()).pool->SetThreads(static_cast<int>(threads));
    return info.Env().Undefined();
}

Napi::Value BindKeepFreedMemory(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "keepFreedMemory");
    reader.Require(info[0].IsBoolean(), "keep must be a boolean");
    const bool keep = info[0].As<Napi::Boolean>().Value();
    SetFreedMemory(keep ? FreedMemory::kKept : FreedMemory::kReturned);
    return info.Env().Undefined();
}

Napi::Value BindEndWithParent(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "endWithParent");
    const int64_t pid = reader.Integer(info[0], "pid", 0, INT32_MAX);
    ThrowIfError(info.Env(), EndWithParent(static_cast<int>(pid)));
    return info.Env().Undefined();
}

Napi::Value BindPinToCores(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "pinToCores");
    ThrowIfError(info.Env(), PinToCores(reader.Array<int32_t>(info[0], "cores")));
    return info.Env().Undefined();
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
    const cpu::Kernels* kernels = nullptr;
    ThrowIfError(env, cpu::SelectedKernels(&kernels));
    auto* addon = new Addon(*kernels);
    env.SetInstanceData(addon);
    addon->file_mapping_class = Napi::Persistent(FileMappingHandle::Define(env));
    addon->kv_arena_class = Napi::Persistent(KvArenaHandle::Define(env));
    addon->kv_store_class = Napi::Persistent(KvStoreHandle::Define(env));
    addon->communicator_class = Napi::Persistent(CommunicatorHandle::Define(env));
    addon->sparse_attention_class = Napi::Persistent(SparseAttentionHandle::Define(env));
    addon->int8_matrix_class = Napi::Persistent(Int8MatrixHandle::Define(env));
    addon->int8_rows_class = Napi::Persistent(Int8RowsHandle::Define(env));
    Export<BindAvailableIsas>(env, exports, "availableIsas");
    Export<BindIsa>(env, exports, "isa");
    Export<BindSetThreads>(env, exports, "setThreads");
    Export<BindKeepFreedMemory>(env, exports, "keepFreedMemory");
    Export<BindEndWithParent>(env, exports, "endWithParent");
    Export<BindPinToCores>(env, exports, "pinToCores");
    Export<CommunicatorHandle::Create>(env, exports, "createCommunicator");
    Export<FileMappingHandle::Open>(env, exports, "openMapping");
    Export<Int8MatrixHandle::Create>(env, exports, "createInt8Matrix");
    Export<Int8RowsHandle::Create>(env, exports, "createInt8Rows");
    Export<KvArenaHandle::Create>(env, exports, "createArena");
    Export<KvStoreHandle::Create>(env, exports, "createStore");
    Export<SparseAttentionHandle::Create>(env, exports, "createSparseAttention");
    Export<KvStoreHandle::VerifyFile>(env, exports, "verifyBlockFile");
    ExportStoreTools(env, exports);
    ExportTensorFunctions(env, exports);
    ExportSamplingFunctions(env, exports);
    return exports;
}

NODE_API_MODULE(ucm, Init)

}  // namespace
}  // namespace ucm::bindings
