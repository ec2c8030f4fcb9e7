#pragma once

#include <cstdint>
#include <span>

#include "common/dtype.h"
#include "common/status.h"
#include "common/thread_pool.h"
#include "cpu/kernels.h"

namespace ucm {

/** What the tensor functions compute with. */
struct Compute {
    const cpu::Kernels& kernels;
    ThreadPool& pool;
};

/** out[i, :] = table[ids[i], :] as fp32; `table` is [rows, width] of `dtype` at any alignment. */
Status GatherRows(const Compute& compute, Dtype dtype, const uint8_t* table, int64_t rows,
                  int64_t width, std::span<const int32_t> ids, float* out);

/** out[i] = x[i] as fp32, exactly. */
void ConvertToFloat32(const Compute& compute, Dtype dtype, const uint8_t* x, int64_t count,
                      float* out);

/** In place: each value to the nearest of `dtype` and back. */
void RoundToDtype(const Compute& compute, Dtype dtype, float* values, int64_t count);

/**
 * Blocks of 32 along cols: packed [rows, ceil(cols / 32), 16], scales [rows, ceil(cols / 32)].
 * Fails on a value that is not finite.
 */
Status QuantizeInt4(const Compute& compute, const float* weight, int64_t rows, int64_t cols,
                    uint8_t* packed, float* scales);

/** Normal values that depend on (seed, index) alone. */
void FillRandom(const Compute& compute, uint64_t seed, float deviation, float* out, int64_t count);

}  // namespace ucm
