#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "bindings/arguments.h"
#include "store/kv_store.h"

namespace ucm::bindings {

/** The JS object of a KvStore. Constructed from JS, it is a closed one. */
class KvStoreHandle : public Napi::ObjectWrap<KvStoreHandle> {
  public:
    static Napi::Function Define(Napi::Env env);
    /** createStore(spec). */
    static Napi::Value Create(const Napi::CallbackInfo& info);
    /** verifyBlockFile(path). */
    static Napi::Value VerifyFile(const Napi::CallbackInfo& info);

    explicit KvStoreHandle(const Napi::CallbackInfo& info);

    /** An open store, which lives on until its sharers let it go. */
    static std::shared_ptr<KvStore> Share(const Reader& reader, const Napi::Value& store);

  private:
    class Channel;
    struct Operation;

    using Binding = Napi::Value (KvStoreHandle::*)(const Napi::CallbackInfo&);

    /** A method in which running out of memory becomes a JS error. */
    template <Binding kBinding>
    Napi::Value Guarded(const Napi::CallbackInfo& info) {
        return Guard(info.Env(), [&] { return (this->*kBinding)(info); });
    }
    template <Binding kBinding>
    static auto Method(const char* name) {
        return InstanceMethod<&KvStoreHandle::Guarded<kBinding>>(name);
    }

    Napi::Value Lookup(const Napi::CallbackInfo& info);
    Napi::Value LookupMemory(const Napi::CallbackInfo& info);
    Napi::Value Load(const Napi::CallbackInfo& info);
    Napi::Value WaitProgress(const Napi::CallbackInfo& info);
    Napi::Value Dump(const Napi::CallbackInfo& info);
    Napi::Value Pin(const Napi::CallbackInfo& info);
    Napi::Value Unpin(const Napi::CallbackInfo& info);
    Napi::Value Forget(const Napi::CallbackInfo& info);
    Napi::Value Stats(const Napi::CallbackInfo& info);
    Napi::Value TakeTransfers(const Napi::CallbackInfo& info);
    Napi::Value Close(const Napi::CallbackInfo& info);

    /** Throws when the store was closed. */
    KvStore& StoreOrThrow(const Reader& reader) const;

    std::shared_ptr<KvStore> store_;
    std::shared_ptr<Channel> channel_;
};

}  // namespace ucm::bindings
