#pragma once

#include <napi.h>

#include <memory>

#include "bindings/arguments.h"
#include "dense/int8_matrix.h"

namespace ucm::bindings {

/** The JS object of an Int8Matrix. Constructed from JS, it is a disposed one. */
class Int8MatrixHandle : public Napi::ObjectWrap<Int8MatrixHandle> {
  public:
    static Napi::Function Define(Napi::Env env);
    /** createInt8Matrix(rows, cols). */
    static Napi::Value Create(const Napi::CallbackInfo& info);

    explicit Int8MatrixHandle(const Napi::CallbackInfo& info);

    /** The matrix of a handle that JS passed as `name`. */
    static const Int8Matrix& MatrixOf(const Reader& reader, const Napi::Value& value,
                                      const char* name);

  private:
    Napi::Value SetRows(const Napi::CallbackInfo& info);
    Napi::Value SetBias(const Napi::CallbackInfo& info);
    Napi::Value Dispose(const Napi::CallbackInfo& info);

    /** Throws when the handle was disposed. */
    Int8Matrix& MatrixOrThrow(const Reader& reader) const;

    std::unique_ptr<Int8Matrix> matrix_;
};

/** The JS object of Int8Rows. */
class Int8RowsHandle : public Napi::ObjectWrap<Int8RowsHandle> {
  public:
    static Napi::Function Define(Napi::Env env);
    /** createInt8Rows(). */
    static Napi::Value Create(const Napi::CallbackInfo& info);

    explicit Int8RowsHandle(const Napi::CallbackInfo& info);

  private:
    Napi::Value Quantize(const Napi::CallbackInfo& info);
    Napi::Value QuantizeNormed(const Napi::CallbackInfo& info);
    Napi::Value Multiply(const Napi::CallbackInfo& info);
    Napi::Value MultiplyGated(const Napi::CallbackInfo& info);

    /** Checks a matrix against the rows that are multiplied with it. */
    void RequireWidth(const Reader& reader, const Int8Matrix& matrix, const char* name) const;

    Int8Rows rows_;
};

}  // namespace ucm::bindings
