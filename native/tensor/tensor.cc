#include "tensor/tensor.h"

#include <algorithm>
#include <string>

namespace ucm {
namespace {

/** Elements of one task: large against the cost of claiming it, small against a core's cache. */
constexpr int64_t kTaskElements = 1 << 16;

/** Calls body(begin, end) over [0, count) in parallel pieces of `step`. */
template <typename Body>
void ForRanges(ThreadPool& pool, int64_t count, int64_t step, Body body) {
    pool.Run((count + step - 1) / step,
             [&](int64_t task, int) { body(task * step, std::min(count, (task + 1) * step)); });
}

/** The 64-bit finaliser of splitmix64. */
uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

}  // namespace

Status GatherRows(const Compute& compute, Dtype dtype, const uint8_t* table, int64_t rows,
                  int64_t width, std::span<const int32_t> ids, float* out) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] >= 0 && ids[i] < rows) continue;
        return Status::InvalidArgument("gatherRows: ids[" + std::to_string(i) + "] is " +
                                       std::to_string(ids[i]) + ", expected 0 to " +
                                       std::to_string(rows - 1));
    }
    const int64_t row_bytes = width * BytesOf(dtype);
    const int64_t step = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, width));
    ForRanges(compute.pool, static_cast<int64_t>(ids.size()), step,
              [&](int64_t begin, int64_t end) {
                  for (int64_t i = begin; i < end; ++i) {
                      const uint8_t* row = table + ids[static_cast<std::size_t>(i)] * row_bytes;
                      compute.kernels.to_float(dtype, row, out + i * width, width);
                  }
              });
    return Status::Ok();
}

void ConvertToFloat32(const Compute& compute, Dtype dtype, const uint8_t* x, int64_t count,
                      float* out) {
    ForRanges(compute.pool, count, kTaskElements, [&](int64_t begin, int64_t end) {
        compute.kernels.to_float(dtype, x + begin * BytesOf(dtype), out + begin, end - begin);
    });
}

void RoundToDtype(const Compute& compute, Dtype dtype, float* values, int64_t count) {
    if (dtype == Dtype::kFloat32) return;
    ForRanges(compute.pool, count, kTaskElements, [&](int64_t begin, int64_t end) {
        uint16_t rounded[1024];
        for (int64_t i = begin; i < end; i += 1024) {
            const int64_t n = std::min<int64_t>(1024, end - i);
            compute.kernels.from_float(dtype, values + i, rounded, n);
            compute.kernels.to_float(dtype, rounded, values + i, n);
        }
    });
}

void FillRandom(const Compute& compute, uint64_t seed, float deviation, float* out, int64_t count) {
    ForRanges(compute.pool, count, kTaskElements, [&](int64_t begin, int64_t end) {
        const uint64_t key = Mix(Mix(seed + 0x9e3779b97f4a7c15u) + static_cast<uint64_t>(begin));
        compute.kernels.fill_normal(key, 0, deviation, out + begin, end - begin);
    });
}

}  // namespace ucm
