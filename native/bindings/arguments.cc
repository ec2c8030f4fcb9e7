#include "bindings/arguments.h"

#include <cmath>

namespace ucm::bindings {
namespace {

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

const char* CodeOf(StatusCode code) {
    switch (code) {
        case StatusCode::kOutOfMemory: return "UCM_ERR_MEMORY";
        case StatusCode::kOk:
        case StatusCode::kInvalidArgument:
        case StatusCode::kIo:
        case StatusCode::kUnsupported: break;
    }
    return "UCM_ERR_NATIVE";
}

const char* ArrayName(napi_typedarray_type type) {
    switch (type) {
        case napi_int8_array: return "an Int8Array";
        case napi_int32_array: return "an Int32Array";
        case napi_float32_array: return "a Float32Array";
        case napi_float64_array: return "a Float64Array";
        default: return "a Uint8Array";
    }
}

/** How an unexpected value appears in a message. */
std::string Describe(const Napi::Value& value) {
    if (value.IsNumber() || value.IsString() || value.IsNull() || value.IsUndefined() ||
        value.IsBoolean()) {
        return value.ToString().Utf8Value();
    }
    return value.IsTypedArray() ? "a typed array of another type" : "a value of another type";
}

}  // namespace

Napi::Error MakeError(Napi::Env env, const char* code, const std::string& message) {
    Napi::Error error = Napi::Error::New(env, message);
    error.Set("code", Napi::String::New(env, code));
    return error;
}

void ThrowIfError(Napi::Env env, const Status& status) {
    if (!status.ok()) throw MakeError(env, CodeOf(status.code()), status.message());
}

void Reader::Fail(const std::string& message) const {
    const Status status = Status::InvalidArgument(std::string(function_) + ": " + message);
    throw MakeError(env_, CodeOf(status.code()), status.message());
}

double Reader::Number(const Napi::Value& value, const char* name) const {
    Require(value.IsNumber(), std::string(name) + " is " + Describe(value) + ", expected a number");
    return value.As<Napi::Number>().DoubleValue();
}

int64_t Reader::Integer(const Napi::Value& value, const char* name, int64_t low,
                        int64_t high) const {
    const double number = Number(value, name);
    Require(std::trunc(number) == number && number >= static_cast<double>(low) &&
                number <= static_cast<double>(high),
            std::string(name) + " is " + Describe(value) + ", expected an integer from " +
                std::to_string(low) + " to " + std::to_string(high));
    return static_cast<int64_t>(number);
}

int64_t Reader::Count(const Napi::Value& value, const char* name) const {
    return Integer(value, name, 0, kMaxSafeInteger);
}

std::string Reader::String(const Napi::Value& value, const char* name) const {
    Require(value.IsString(), std::string(name) + " is " + Describe(value) + ", expected a string");
    return value.As<Napi::String>().Utf8Value();
}

Napi::Object Reader::Object(const Napi::Value& value, const char* name) const {
    Require(value.IsObject(),
            std::string(name) + " is " + Describe(value) + ", expected an object");
    return value.As<Napi::Object>();
}

Dtype Reader::FloatDtype(const Napi::Value& value, const char* name) const {
    const std::string dtype = String(value, name);
    if (dtype == "float32") return Dtype::kFloat32;
    if (dtype == "bfloat16") return Dtype::kBfloat16;
    Require(dtype == "float16",
            std::string(name) + " is '" + dtype + "', expected float32, bfloat16 or float16");
    return Dtype::kFloat16;
}

int64_t Reader::Product(int64_t a, int64_t b) const {
    int64_t product = 0;
    Require(!__builtin_mul_overflow(a, b, &product),
            std::to_string(a) + " * " + std::to_string(b) + " elements are too many");
    return product;
}

void* Reader::ArrayData(const Napi::Value& value, const char* name, napi_typedarray_type type,
                        std::size_t* length) const {
    void* data = nullptr;
    napi_typedarray_type actual{};
    const bool matches = napi_get_typedarray_info(env_, value, &actual, length, &data, nullptr,
                                                  nullptr) == napi_ok &&
                         actual == type;
    if (!matches) {
        Fail(std::string(name) + " is " + Describe(value) + ", expected " + ArrayName(type));
    }
    return data;
}

void Reader::RequireLength(const char* name, int64_t length, int64_t expected) const {
    if (length >= expected) return;
    Fail(std::string(name) + " has " + std::to_string(length) + " elements, expected at least " +
         std::to_string(expected));
}

}  // namespace ucm::bindings
