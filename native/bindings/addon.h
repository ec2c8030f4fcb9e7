#pragma once

#include <napi.h>

#include <memory>

#include "bindings/arguments.h"
#include "common/thread_pool.h"
#include "cpu/kernels.h"
#include "sampling/sampler.h"
#include "tensor/tensor.h"

namespace ucm::bindings {

/**
 * What the addon keeps per Node environment. Node deletes it when the environment ends, which joins
 * the pool's threads; arenas share the pool, so that the order of their ends does not matter.
 */
struct Addon {
    explicit Addon(const cpu::Kernels& kernels)
        : kernels(kernels), pool(std::make_shared<ThreadPool>()), sampler(kernels) {}

    Compute compute() const { return {kernels, *pool}; }

    const cpu::Kernels& kernels;
    std::shared_ptr<ThreadPool> pool;
    Sampler sampler;
    Napi::FunctionReference file_mapping_class;
    Napi::FunctionReference kv_arena_class;
    Napi::FunctionReference kv_store_class;
    Napi::FunctionReference communicator_class;
    Napi::FunctionReference sparse_attention_class;
    Napi::FunctionReference int8_matrix_class;
    Napi::FunctionReference int8_rows_class;
};

inline Addon& AddonOf(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

void ExportTensorFunctions(Napi::Env env, Napi::Object exports);
void ExportStoreTools(Napi::Env env, Napi::Object exports);
void ExportSamplingFunctions(Napi::Env env, Napi::Object exports);

/** Exports a binding under `name`; when it runs out of memory, that becomes a JS error. */
template <Napi::Value (*kFunction)(const Napi::CallbackInfo&)>
void Export(Napi::Env env, Napi::Object exports, const char* name) {
    const auto guarded = [](const Napi::CallbackInfo& info) {
        return Guard(info.Env(), [&] { return kFunction(info); });
    };
    exports.Set(name, Napi::Function::New(env, guarded, name));
}

}  // namespace ucm::bindings
