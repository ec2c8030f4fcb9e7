#include "bindings/int8_handles.h"

#include "bindings/addon.h"

namespace ucm::bindings {
namespace {

/** Tells our handles from any other wrapped object. */
constexpr napi_type_tag kMatrixTag = {0x2f7c9b14d0e84a63, 0xa1b85e3c70d94f26};

/** `x` [rows, width] of a call. */
struct RowsArgument {
    std::span<float> x;
    int64_t rows;
    int64_t width;
};

RowsArgument ReadRows(const Reader& reader, const Napi::CallbackInfo& info) {
    RowsArgument argument = {};
    argument.rows = reader.Count(info[1], "rows");
    argument.width = reader.Integer(info[2], "width", 1, INT32_MAX);
    argument.x = reader.Array<float>(info[0], "x", reader.Product(argument.rows, argument.width));
    return argument;
}

}  // namespace

Napi::Function Int8MatrixHandle::Define(Napi::Env env) {
    return DefineClass(env, "Int8Matrix",
                       {InstanceMethod<&Int8MatrixHandle::SetRows>("setRows"),
                        InstanceMethod<&Int8MatrixHandle::SetBias>("setBias"),
                        InstanceMethod<&Int8MatrixHandle::Dispose>("dispose")});
}

Int8MatrixHandle::Int8MatrixHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<Int8MatrixHandle>(info) {
    info.This().As<Napi::Object>().TypeTag(&kMatrixTag);
}

Napi::Value Int8MatrixHandle::Create(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "createInt8Matrix");
    std::unique_ptr<Int8Matrix> matrix;
    ThrowIfError(info.Env(), Int8Matrix::Create(reader.Count(info[0], "rows"),
                                                reader.Count(info[1], "cols"), &matrix));
    const Napi::Object handle = AddonOf(info.Env()).int8_matrix_class.New({});
    Unwrap(handle)->matrix_ = std::move(matrix);
    return handle;
}

Int8Matrix& Int8MatrixHandle::MatrixOrThrow(const Reader& reader) const {
    reader.Require(matrix_ != nullptr, "the matrix was disposed");
    return *matrix_;
}

const Int8Matrix& Int8MatrixHandle::MatrixOf(const Reader& reader, const Napi::Value& value,
                                             const char* name) {
    const Napi::Object handle = reader.Object(value, name);
    reader.Require(handle.CheckTypeTag(&kMatrixTag), std::string(name) + " is not an int8 matrix");
    return Unwrap(handle)->MatrixOrThrow(reader);
}

Napi::Value Int8MatrixHandle::SetRows(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "setRows");
    Int8Matrix& matrix = MatrixOrThrow(reader);
    const int64_t first = reader.Count(info[1], "first");
    const int64_t count = reader.Count(info[2], "count");
    reader.Require(first <= matrix.rows() && count <= matrix.rows() - first,
                   "rows " + std::to_string(first) + " to " + std::to_string(first + count) +
                       " do not fit a matrix of " + std::to_string(matrix.rows()));
    const auto values =
        reader.Array<float>(info[0], "values", reader.Product(count, matrix.cols()));
    ThrowIfError(info.Env(), matrix.SetRows(AddonOf(info.Env()).compute(), values.data(), first,
                                            count));
    return info.Env().Undefined();
}

Napi::Value Int8MatrixHandle::SetBias(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "setBias");
    Int8Matrix& matrix = MatrixOrThrow(reader);
    const auto bias = reader.Array<float>(info[0], "bias", matrix.rows());
    matrix.SetBias(bias.first(static_cast<std::size_t>(matrix.rows())));
    return info.Env().Undefined();
}

Napi::Value Int8MatrixHandle::Dispose(const Napi::CallbackInfo& info) {
    matrix_.reset();
    return info.Env().Undefined();
}

Napi::Function Int8RowsHandle::Define(Napi::Env env) {
    return DefineClass(env, "Int8Rows",
                       {InstanceMethod<&Int8RowsHandle::Quantize>("quantize"),
                        InstanceMethod<&Int8RowsHandle::QuantizeNormed>("quantizeNormed"),
                        InstanceMethod<&Int8RowsHandle::Multiply>("multiply"),
                        InstanceMethod<&Int8RowsHandle::MultiplyGated>("multiplyGated")});
}

Int8RowsHandle::Int8RowsHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<Int8RowsHandle>(info) {}

Napi::Value Int8RowsHandle::Create(const Napi::CallbackInfo& info) {
    return AddonOf(info.Env()).int8_rows_class.New({});
}

Napi::Value Int8RowsHandle::Quantize(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "quantize");
    const auto [x, rows, width] = ReadRows(reader, info);
    return Guard(info.Env(), [&] {
        rows_.Quantize(AddonOf(info.Env()).compute(), x.data(), rows, width);
        return info.Env().Undefined();
    });
}

Napi::Value Int8RowsHandle::QuantizeNormed(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "quantizeNormed");
    const auto [x, rows, width] = ReadRows(reader, info);
    const auto weight = reader.Array<float>(info[3], "weight", width);
    const auto eps = static_cast<float>(reader.Number(info[4], "eps"));
    return Guard(info.Env(), [&] {
        rows_.QuantizeNormed(AddonOf(info.Env()).compute(), x.data(), rows, width, weight.data(),
                             eps);
        return info.Env().Undefined();
    });
}

void Int8RowsHandle::RequireWidth(const Reader& reader, const Int8Matrix& matrix,
                                  const char* name) const {
    reader.Require(matrix.cols() == rows_.width(),
                   std::string(name) + " has " + std::to_string(matrix.cols()) +
                       " columns, the rows are " + std::to_string(rows_.width()) + " wide");
}

Napi::Value Int8RowsHandle::Multiply(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "multiply");
    const Int8Matrix& matrix = Int8MatrixHandle::MatrixOf(reader, info[0], "matrix");
    RequireWidth(reader, matrix, "matrix");
    const auto out =
        reader.Array<float>(info[1], "out", reader.Product(rows_.rows(), matrix.rows()));
    reader.Require(info[2].IsBoolean(), "accumulate must be a boolean");
    ucm::Multiply(AddonOf(info.Env()).compute(), rows_, matrix, out.data(),
                  info[2].As<Napi::Boolean>().Value());
    return info.Env().Undefined();
}

Napi::Value Int8RowsHandle::MultiplyGated(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "multiplyGated");
    const Int8Matrix& gate = Int8MatrixHandle::MatrixOf(reader, info[0], "gate");
    const Int8Matrix& up = Int8MatrixHandle::MatrixOf(reader, info[1], "up");
    RequireWidth(reader, gate, "gate");
    RequireWidth(reader, up, "up");
    reader.Require(gate.rows() == up.rows(),
                   "gate has " + std::to_string(gate.rows()) + " outputs, up has " +
                       std::to_string(up.rows()));
    const auto out =
        reader.Array<float>(info[2], "out", reader.Product(rows_.rows(), gate.rows()));
    ucm::MultiplyGated(AddonOf(info.Env()).compute(), rows_, gate, up, out.data());
    return info.Env().Undefined();
}

}  // namespace ucm::bindings
