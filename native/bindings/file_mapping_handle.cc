#include "bindings/file_mapping_handle.h"

#include "bindings/addon.h"

namespace ucm::bindings {
namespace {

/** Tells our handles from any other wrapped object. */
constexpr napi_type_tag kTag = {0x6b1d0c3e9f2a4c51, 0x8e7d5a2b4f6c9013};

}  // namespace

Napi::Function FileMappingHandle::Define(Napi::Env env) {
    return DefineClass(env, "FileMapping",
                       {InstanceAccessor<&FileMappingHandle::ByteLength>("byteLength"),
                        InstanceMethod<&FileMappingHandle::Dispose>("dispose")});
}

FileMappingHandle::FileMappingHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<FileMappingHandle>(info) {
    info.This().As<Napi::Object>().TypeTag(&kTag);
}

Napi::Value FileMappingHandle::Open(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "openMapping");
    std::unique_ptr<FileMapping> mapping;
    ThrowIfError(info.Env(), FileMapping::Open(reader.String(info[0], "path"), &mapping));
    const Napi::Object handle = AddonOf(info.Env()).file_mapping_class.New({});
    Unwrap(handle)->mapping_ = std::move(mapping);
    return handle;
}

Napi::Value FileMappingHandle::ByteLength(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "byteLength");
    reader.Require(mapping_ != nullptr, "the file mapping was disposed");
    return Napi::Number::New(info.Env(), static_cast<double>(mapping_->byte_length()));
}

Napi::Value FileMappingHandle::Dispose(const Napi::CallbackInfo& info) {
    mapping_.reset();
    return info.Env().Undefined();
}

const uint8_t* FileMappingHandle::TensorData(const Reader& reader, const Napi::Value& tensor,
                                             int64_t count, Dtype* dtype) {
    const Napi::Object fields = reader.Object(tensor, "tensor");
    const Napi::Object handle = reader.Object(fields.Get("mapping"), "tensor.mapping");
    reader.Require(handle.CheckTypeTag(&kTag), "tensor.mapping is not a file mapping");
    const FileMapping* mapping = Unwrap(handle)->mapping_.get();
    reader.Require(mapping != nullptr, "the file mapping was disposed");
    *dtype = reader.FloatDtype(fields.Get("dtype"), "tensor.dtype");
    const int64_t offset = reader.Count(fields.Get("byteOffset"), "tensor.byteOffset");
    const int64_t bytes = reader.Product(count, BytesOf(*dtype));
    reader.Require(offset <= mapping->byte_length() && bytes <= mapping->byte_length() - offset,
                   "the tensor needs " + std::to_string(bytes) + " bytes at offset " +
                       std::to_string(offset) + ", but the file has " +
                       std::to_string(mapping->byte_length()));
    return mapping->data() + offset;
}

}  // namespace ucm::bindings
