#include <algorithm>

#include "tensor/bad_row.h"
#include "tensor/tensor.h"

namespace ucm {

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
