#pragma once

#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <new>
#include <span>
#include <string>
#include <utility>

#include "common/dtype.h"
#include "common/status.h"

namespace ucm::bindings {

/** A JS Error with a `code` property. */
Napi::Error MakeError(Napi::Env env, const char* code, const std::string& message);

/** Throws the JS error of a failed Status: the one place where statuses become error codes. */
void ThrowIfError(Napi::Env env, const Status& status);

/** `body()`, with running out of memory turned into UCM_ERR_MEMORY. */
template <typename Body>
auto Guard(Napi::Env env, Body body) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        throw MakeError(env, "UCM_ERR_MEMORY", "the machine is out of memory");
    }
}

template <typename T>
constexpr napi_typedarray_type kArrayType = napi_uint8_array;
template <>
inline constexpr napi_typedarray_type kArrayType<int8_t> = napi_int8_array;
template <>
inline constexpr napi_typedarray_type kArrayType<int32_t> = napi_int32_array;
template <>
inline constexpr napi_typedarray_type kArrayType<float> = napi_float32_array;
template <>
inline constexpr napi_typedarray_type kArrayType<double> = napi_float64_array;

/** Checks values that JS passed to one function; its errors name the function and the value. */
class Reader {
  public:
    Reader(Napi::Env env, const char* function) : env_(env), function_(function) {}

    [[noreturn]] void Fail(const std::string& message) const;
    void Require(bool condition, const std::string& message) const {
        if (!condition) Fail(message);
    }

    double Number(const Napi::Value& value, const char* name) const;
    /** An integer within [low, high]. */
    int64_t Integer(const Napi::Value& value, const char* name, int64_t low, int64_t high) const;
    /** An integer from 0 to 2^53 - 1. */
    int64_t Count(const Napi::Value& value, const char* name) const;
    std::string String(const Napi::Value& value, const char* name) const;
    Napi::Object Object(const Napi::Value& value, const char* name) const;
    Dtype FloatDtype(const Napi::Value& value, const char* name) const;

    /** The value that a string names. */
    template <typename T>
    T OneOf(const Napi::Value& value, const char* name,
            std::initializer_list<std::pair<const char*, T>> choices) const {
        const std::string given = String(value, name);
        std::string known;
        for (const auto& [choice, meaning] : choices) {
            if (given == choice) return meaning;
            known += (known.empty() ? "" : ", ") + std::string(choice);
        }
        Fail(std::string(name) + " is '" + given + "', expected one of " + known);
    }

    /** The elements of a typed array of exactly this element type. Valid while JS does not run. */
    template <typename T>
    std::span<T> Array(const Napi::Value& value, const char* name) const {
        std::size_t length = 0;
        void* data = ArrayData(value, name, kArrayType<T>, &length);
        return {static_cast<T*>(data), length};
    }
    /** The same, with at least `length` elements. */
    template <typename T>
    std::span<T> Array(const Napi::Value& value, const char* name, int64_t length) const {
        const std::span<T> array = Array<T>(value, name);
        RequireLength(name, static_cast<int64_t>(array.size()), length);
        return array;
    }

    /** a * b, failing when it overflows. */
    int64_t Product(int64_t a, int64_t b) const;

  private:
    void* ArrayData(const Napi::Value& value, const char* name, napi_typedarray_type type,
                    std::size_t* length) const;
    void RequireLength(const char* name, int64_t length, int64_t expected) const;

    Napi::Env env_;
    const char* function_;
};

}  // namespace ucm::bindings
