#include <algorithm>
#include <atomic>
#include <bit>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace ucm {
namespace {

/** Rows of one task: 64 output columns are one cache line of int8. */
constexpr int64_t kRowsPerTask = 64;
constexpr int64_t kColsPerTile = 256;
constexpr uint32_t kInfinityBits = 0x7f800000;

/** Remembers the lowest row that holds a value which is not finite. */
class BadRow {
  public:
    void Report(int64_t row) {
        int64_t lowest = row_.load();
        while (row < lowest && !row_.compare_exchange_weak(lowest, row)) {
        }
    }
    Status ToStatus(const char* function) const {
        if (row_.load() == INT64_MAX) return Status::Ok();
        return Status::InvalidArgument(std::string(function) + ": row " +
                                       std::to_string(row_.load()) +
                                       " of the weight holds a NaN or an infinity");
    }

  private:
    std::atomic<int64_t> row_{INT64_MAX};
};

/** Quantizes rows [begin, end) tile by tile and writes each tile transposed. */
void QuantizeRows(const cpu::Kernels& kernels, const float* weight, int64_t cols, int64_t begin,
                  int64_t end, const float* inverses, const Int8Target& target) {
    int8_t tile[kRowsPerTask][kColsPerTile];
    for (int64_t col = 0; col < cols; col += kColsPerTile) {
        const int64_t width = std::min(kColsPerTile, cols - col);
        for (int64_t row = begin; row < end; ++row) {
            kernels.quantize_int8(weight + row * cols + col, inverses[row - begin],
                                  tile[row - begin], width);
        }
        for (int64_t k = 0; k < width; ++k) {
            int8_t* out = target.values + (col + k) * target.columns + target.column + begin;
            for (int64_t n = 0; n < end - begin; ++n) out[n] = tile[n][k];
        }
    }
}

}  // namespace

Status QuantizeInt8(const Compute& compute, const float* weight, int64_t rows, int64_t cols,
                    const Int8Target& target) {
    BadRow bad_row;
    compute.pool.Run((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
        const int64_t begin = task * kRowsPerTask;
        const int64_t end = std::min(rows, begin + kRowsPerTask);
        float inverses[kRowsPerTask];
        for (int64_t row = begin; row < end; ++row) {
            const uint32_t bits = compute.kernels.max_magnitude_bits(weight + row * cols, cols);
            if (bits >= kInfinityBits) return bad_row.Report(row);
            const float scale = std::bit_cast<float>(bits) / 127.0f;
            target.scales[target.column + row] = scale;
            inverses[row - begin] = scale > 0.0f ? 1.0f / scale : 0.0f;
        }
        QuantizeRows(compute.kernels, weight, cols, begin, end, inverses, target);
    });
    return bad_row.ToStatus("quantizeInt8");
}

Status QuantizeInt4(const Compute& compute, const float* weight, int64_t rows, int64_t cols,
                    uint8_t* packed, float* scales) {
    const int64_t blocks = (cols + cpu::kInt4Block - 1) / cpu::kInt4Block;
    BadRow bad_row;
    compute.pool.Run(rows, [&](int64_t row, int) {
        const float* x = weight + row * cols;
        if (compute.kernels.max_magnitude_bits(x, cols) >= kInfinityBits) {
            return bad_row.Report(row);
        }
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t at = row * blocks + block;
            const int64_t col = block * cpu::kInt4Block;
            float padded[cpu::kInt4Block] = {};
            const bool whole = cols - col >= cpu::kInt4Block;
            if (!whole) std::copy(x + col, x + cols, padded);
            compute.kernels.quantize_int4(whole ? x + col : padded,
                                          packed + at * (cpu::kInt4Block / 2), &scales[at]);
        }
    });
    return bad_row.ToStatus("quantizeInt4");
}

}  // namespace ucm
