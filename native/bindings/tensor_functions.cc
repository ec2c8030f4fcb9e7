#include "bindings/addon.h"
#include "bindings/arguments.h"
#include "bindings/file_mapping_handle.h"

namespace ucm::bindings {
namespace {

Napi::Value BindGatherRows(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "gatherRows");
    const int64_t rows = reader.Count(info[1], "rows");
    const int64_t width = reader.Count(info[2], "width");
    Dtype dtype{};
    const uint8_t* table =
        FileMappingHandle::TensorData(reader, info[0], reader.Product(rows, width), &dtype);
    const auto ids = reader.Array<int32_t>(info[3], "ids");
    const int64_t length = reader.Product(static_cast<int64_t>(ids.size()), width);
    const auto out = reader.Array<float>(info[4], "out", length);
    ThrowIfError(info.Env(), GatherRows(AddonOf(info.Env()).compute(), dtype, table, rows, width,
                                        ids, out.data()));
    return info.Env().Undefined();
}

Napi::Value BindConvertToFloat32(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "convertToFloat32");
    const int64_t count = reader.Count(info[1], "count");
    Dtype dtype{};
    const uint8_t* x = FileMappingHandle::TensorData(reader, info[0], count, &dtype);
    const auto out = reader.Array<float>(info[2], "out", count);
    ConvertToFloat32(AddonOf(info.Env()).compute(), dtype, x, count, out.data());
    return info.Env().Undefined();
}

Napi::Value BindRoundToDtype(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "roundToDtype");
    const auto values = reader.Array<float>(info[0], "values");
    const Dtype dtype = reader.FloatDtype(info[1], "dtype");
    RoundToDtype(AddonOf(info.Env()).compute(), dtype, values.data(),
                 static_cast<int64_t>(values.size()));
    return info.Env().Undefined();
}

Napi::Value BindQuantizeInt4(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "quantizeInt4");
    const int64_t rows = reader.Count(info[1], "rows");
    const int64_t cols = reader.Count(info[2], "cols");
    const auto weight = reader.Array<float>(info[0], "weight", reader.Product(rows, cols));
    const int64_t blocks = reader.Product(rows, (cols + cpu::kInt4Block - 1) / cpu::kInt4Block);
    const auto packed =
        reader.Array<uint8_t>(info[3], "packed", reader.Product(blocks, cpu::kInt4Block / 2));
    const auto scales = reader.Array<float>(info[4], "scales", blocks);
    ThrowIfError(info.Env(), QuantizeInt4(AddonOf(info.Env()).compute(), weight.data(), rows, cols,
                                          packed.data(), scales.data()));
    return info.Env().Undefined();
}

Napi::Value BindFillRandom(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "fillRandom");
    const auto out = reader.Array<float>(info[0], "out");
    const int64_t seed = reader.Count(info[1], "seed");
    const double deviation = reader.Number(info[2], "deviation");
    FillRandom(AddonOf(info.Env()).compute(), static_cast<uint64_t>(seed),
               static_cast<float>(deviation), out.data(), static_cast<int64_t>(out.size()));
    return info.Env().Undefined();
}

}  // namespace

void ExportTensorFunctions(Napi::Env env, Napi::Object exports) {
    Export<BindGatherRows>(env, exports, "gatherRows");
    Export<BindConvertToFloat32>(env, exports, "convertToFloat32");
    Export<BindRoundToDtype>(env, exports, "roundToDtype");
    Export<BindQuantizeInt4>(env, exports, "quantizeInt4");
    Export<BindFillRandom>(env, exports, "fillRandom");
}

}  // namespace ucm::bindings
