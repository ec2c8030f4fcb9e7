#include "dense/int8_matrix.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "tensor/bad_row.h"

namespace ucm {
namespace {

using cpu::kInt8Columns;
using cpu::kInt8Group;

/** Keeps 255 * 127 * cols within 32 bits. */
constexpr int64_t kMaxCols = int64_t{1} << 16;
constexpr int64_t kMaxRows = int64_t{1} << 31;

int64_t PaddedTo(int64_t multiple, int64_t count) {
    return (count + multiple - 1) / multiple * multiple;
}

}  // namespace

Status Int8Matrix::Create(int64_t rows, int64_t cols, std::unique_ptr<Int8Matrix>* matrix) {
    if (rows < 1 || rows > kMaxRows || cols < 1 || cols > kMaxCols) {
        return Status::InvalidArgument("createInt8Matrix: shape [" + std::to_string(rows) + ", " +
                                       std::to_string(cols) + "], expected [1 to 2^31, 1 to " +
                                       std::to_string(kMaxCols) + "]");
    }
    const auto bytes = static_cast<std::size_t>(PaddedTo(kInt8Columns, rows) *
                                                PaddedTo(cpu::kInt8Depth, cols));
    void* data =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        return {StatusCode::kOutOfMemory, "createInt8Matrix: no memory for " +
                                               std::to_string(bytes) + " bytes of weights"};
    }
    // A product reads weights once from begin to end; with small pages every 4 KB wait for an address.
    madvise(data, bytes, MADV_HUGEPAGE);
    matrix->reset(new Int8Matrix(rows, cols, static_cast<int8_t*>(data)));
    return Status::Ok();
}

Int8Matrix::Int8Matrix(int64_t rows, int64_t cols, int8_t* data)
    : rows_(rows),
      cols_(cols),
      depth_(PaddedTo(cpu::kInt8Depth, cols)),
      panels_(PaddedTo(kInt8Columns, rows) / kInt8Columns),
      data_(data) {
    const int64_t padded = panels_ * kInt8Columns;
    offsets_.Reserve(padded);
    scales_.Reserve(padded);
    bias_.Reserve(padded);
    std::fill_n(offsets_.data(), padded, 0);
    std::fill_n(scales_.data(), padded, 0.0f);
    std::fill_n(bias_.data(), padded, 0.0f);
}

Int8Matrix::~Int8Matrix() {
    munmap(data_, static_cast<std::size_t>(panels_ * kInt8Columns * depth_));
}

Status Int8Matrix::SetRows(const Compute& compute, const float* values, int64_t first,
                           int64_t count) {
    // Tasks are of whole panels, so that no two write into one cache line.
    const int64_t first_panel = first / kInt8Columns;
    const int64_t last = first + count;
    BadRow bad_row;
    compute.pool.Run((last + kInt8Columns - 1) / kInt8Columns - first_panel, [&](int64_t task, int) {
        const int64_t panel = first_panel + task;
        AlignedBuffer<int8_t> quantized;
        quantized.Reserve(depth_);
        std::fill_n(quantized.data() + cols_, depth_ - cols_, int8_t{0});
        const int64_t end = std::min(last, (panel + 1) * kInt8Columns);
        for (int64_t row = std::max(first, panel * kInt8Columns); row < end; ++row) {
            const float* x = values + (row - first) * cols_;
            const uint32_t bits = compute.kernels.max_magnitude_bits(x, cols_);
            if (bits >= kInfinityBits) return bad_row.Report(row - first);
            const float scale = std::bit_cast<float>(bits) / 127.0f;
            scales_.data()[row] = scale;
            compute.kernels.quantize_int8(x, scale > 0.0f ? 1.0f / scale : 0.0f, quantized.data(),
                                          cols_);
            int8_t* out = data_ + panel * kInt8Columns * depth_ + row % kInt8Columns * kInt8Group;
            int32_t sum = 0;
            for (int64_t k = 0; k < depth_; k += kInt8Group) {
                std::memcpy(out + k * kInt8Columns, quantized.data() + k, kInt8Group);
                for (int64_t i = 0; i < kInt8Group; ++i) sum += quantized.data()[k + i];
            }
            offsets_.data()[row] = 128 * sum;
        }
    });
    return bad_row.ToStatus("setRows");
}

void Int8Matrix::SetBias(std::span<const float> bias) {
    std::copy(bias.begin(), bias.end(), bias_.data());
}

void Int8Matrix::Multiply(const cpu::Kernels& kernels, int64_t index,
                          cpu::Int8Product product) const {
    product.panel = panel(index);
    product.offsets = offsets_.data() + index * kInt8Columns;
    product.depth = depth_;
    kernels.multiply_int8(product);
}

cpu::Int8Result Int8Matrix::ResultOf(int64_t panel, cpu::Int8Result result) const {
    const int64_t column = panel * kInt8Columns;
    result.columns = std::min(kInt8Columns, rows_ - column);
    result.column_scales = scales_.data() + column;
    result.bias = bias_.data() + column;
    return result;
}

}  // namespace ucm
