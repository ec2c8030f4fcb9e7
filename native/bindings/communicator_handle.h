#pragma once

#include <napi.h>

#include <memory>

#include "bindings/arguments.h"
#include "comm/shm_communicator.h"

namespace ucm::bindings {

/** The JS object of a communicator over shared memory. Constructed from JS, it is a disposed one. */
class CommunicatorHandle : public Napi::ObjectWrap<CommunicatorHandle> {
  public:
    static Napi::Function Define(Napi::Env env);
    /** createCommunicator(spec). */
    static Napi::Value Create(const Napi::CallbackInfo& info);

    explicit CommunicatorHandle(const Napi::CallbackInfo& info);

  private:
    Napi::Value AllReduceSum(const Napi::CallbackInfo& info);
    Napi::Value GatherColumns(const Napi::CallbackInfo& info);
    Napi::Value Broadcast(const Napi::CallbackInfo& info);
    Napi::Value NoteProgress(const Napi::CallbackInfo& info);
    Napi::Value NoteIdle(const Napi::CallbackInfo& info);
    Napi::Value Dispose(const Napi::CallbackInfo& info);

    /** Throws when the handle was disposed. */
    ShmCommunicator& CommunicatorOrThrow(const Reader& reader) const;

    std::unique_ptr<ShmCommunicator> communicator_;
};

}  // namespace ucm::bindings
