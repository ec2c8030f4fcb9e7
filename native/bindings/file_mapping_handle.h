#pragma once

#include <napi.h>

#include <memory>

#include "bindings/arguments.h"
#include "common/file_mapping.h"

namespace ucm::bindings {

/** The JS object of a FileMapping. Constructed from JS, it is a disposed one. */
class FileMappingHandle : public Napi::ObjectWrap<FileMappingHandle> {
  public:
    static Napi::Function Define(Napi::Env env);
    /** openMapping(path). */
    static Napi::Value Open(const Napi::CallbackInfo& info);

    explicit FileMappingHandle(const Napi::CallbackInfo& info);

    /** `count` elements of a MappedTensor's file, after checking that they are there. */
    static const uint8_t* TensorData(const Reader& reader, const Napi::Value& tensor, int64_t count,
                                     Dtype* dtype);

  private:
    Napi::Value ByteLength(const Napi::CallbackInfo& info);
    Napi::Value Dispose(const Napi::CallbackInfo& info);

    std::unique_ptr<FileMapping> mapping_;
};

}  // namespace ucm::bindings
