#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "attention/kv_arena.h"
#include "attention/paged_attention.h"
#include "bindings/arguments.h"
#include "common/thread_pool.h"
#include "esa/sparse_attention.h"

namespace ucm::bindings {

/** The JS object of a KV cache and its attention. Constructed from JS, it is a disposed one. */
class KvArenaHandle : public Napi::ObjectWrap<KvArenaHandle> {
  public:
    static Napi::Function Define(Napi::Env env);
    /** createArena(spec). */
    static Napi::Value Create(const Napi::CallbackInfo& info);

    explicit KvArenaHandle(const Napi::CallbackInfo& info);

    /** The memory of an arena, which transfers keep alive beyond the handle's disposal. */
    static std::shared_ptr<KvArena> Share(const Reader& reader, const Napi::Value& arena);

  private:
    Napi::Value KvBytes(const Napi::CallbackInfo& info);
    Napi::Value BytesPerBlock(const Napi::CallbackInfo& info);
    Napi::Value BeginStep(const Napi::CallbackInfo& info);
    Napi::Value Forward(const Napi::CallbackInfo& info);
    Napi::Value ReadBlock(const Napi::CallbackInfo& info);
    Napi::Value WriteBlock(const Napi::CallbackInfo& info);
    Napi::Value Dispose(const Napi::CallbackInfo& info);

    /** Adds to the batch what sparse attention knows of its sequences. */
    std::shared_ptr<esa::SparseAttention> ReadSparse(const Reader& reader, const Napi::Value& value,
                                                     BatchView* batch,
                                                     std::vector<SparseRow>* rows) const;
    /** Throws when the handle was disposed. */
    const ArenaShape& ShapeOrThrow(const Reader& reader) const;
    LayerInput ReadLayerInput(const Reader& reader, const Napi::Object& fields) const;
    /** A projection: `heads` head vectors per row of the step. */
    const float* ReadRows(const Reader& reader, const Napi::Object& fields, const char* name,
                          const char* stride_name, int64_t heads, int64_t* stride) const;
    const float* ReadNorm(const Reader& reader, const Napi::Object& fields, const char* name) const;

    std::shared_ptr<ThreadPool> pool_;
    std::shared_ptr<KvArena> arena_;
    std::unique_ptr<PagedAttention> attention_;
    /** Of the step, which points into it. */
    std::shared_ptr<esa::SparseAttention> sparse_;
};

}  // namespace ucm::bindings
