#pragma once

#include <napi.h>

#include <memory>

#include "bindings/arguments.h"
#include "esa/sparse_attention.h"

namespace ucm::bindings {

/** The JS object of sparse attention. Constructed from JS, it is a disposed one. */
class SparseAttentionHandle : public Napi::ObjectWrap<SparseAttentionHandle> {
  public:
    static Napi::Function Define(Napi::Env env);
    /** createSparseAttention(arena, store, spec). */
    static Napi::Value Create(const Napi::CallbackInfo& info);

    explicit SparseAttentionHandle(const Napi::CallbackInfo& info);
    /** Ends the thread, wherever else the object is still held. */
    ~SparseAttentionHandle() override;

    static std::shared_ptr<esa::SparseAttention> Share(const Reader& reader,
                                                       const Napi::Value& attention);

  private:
    using Binding = Napi::Value (SparseAttentionHandle::*)(const Napi::CallbackInfo&);

    /** A method in which running out of memory becomes a JS error. */
    template <Binding kBinding>
    Napi::Value Guarded(const Napi::CallbackInfo& info) {
        return Guard(info.Env(), [&] { return (this->*kBinding)(info); });
    }
    template <Binding kBinding>
    static auto Method(const char* name) {
        return InstanceMethod<&SparseAttentionHandle::Guarded<kBinding>>(name);
    }

    Napi::Value Watch(const Napi::CallbackInfo& info);
    Napi::Value Enter(const Napi::CallbackInfo& info);
    Napi::Value Settle(const Napi::CallbackInfo& info);
    Napi::Value FinishStep(const Napi::CallbackInfo& info);
    Napi::Value Leave(const Napi::CallbackInfo& info);
    Napi::Value TakeRecalls(const Napi::CallbackInfo& info);
    Napi::Value Selection(const Napi::CallbackInfo& info);
    Napi::Value Stats(const Napi::CallbackInfo& info);
    Napi::Value Dispose(const Napi::CallbackInfo& info);

    /** Throws when it was disposed. */
    esa::SparseAttention& AttentionOrThrow(const Reader& reader) const;

    std::shared_ptr<esa::SparseAttention> attention_;
};

}  // namespace ucm::bindings
