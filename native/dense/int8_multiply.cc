#include <algorithm>
#include <utility>

#include "dense/int8_matrix.h"

namespace ucm {
namespace {

using cpu::kInt8Columns;
using cpu::kInt8Rows;

/** Bytes of weights that a task reads at least: below, claiming it and finding its first lines count. */
constexpr int64_t kTaskBytes = 64 * 1024;
/** Values of a task that works row by row. */
constexpr int64_t kTaskValues = 16 * 1024;

/** Calls body(row, thread) for all rows, spread over the pool unless they are few. */
template <typename Body>
void ForEachRow(const Compute& compute, int64_t rows, int64_t width, Body body) {
    const int64_t per_task = std::max<int64_t>(1, kTaskValues / width);
    compute.pool.Run((rows + per_task - 1) / per_task, [&](int64_t task, int thread) {
        const int64_t end = std::min(rows, (task + 1) * per_task);
        for (int64_t row = task * per_task; row < end; ++row) body(row, thread);
    });
}

/** Calls body(panel, likely next panel of the thread) for all panels of matrices of this shape, some to a task. */
template <typename Body>
void ForEachPanel(const Compute& compute, const Int8Matrix& matrix, Body body) {
    const int64_t panels = matrix.panels();
    const int64_t wanted = std::max<int64_t>(1, kTaskBytes / (kInt8Columns * matrix.depth()));
    // Enough tasks that no thread waits long for the last.
    const int64_t most = std::max<int64_t>(1, panels / (8 * compute.pool.threads()));
    const int64_t per_task = std::min(wanted, most);
    // Threads take tasks in turn.
    const int64_t others = (compute.pool.threads() - 1) * per_task;
    compute.pool.Run((panels + per_task - 1) / per_task, [&](int64_t task, int) {
        const int64_t end = std::min(panels, (task + 1) * per_task);
        for (int64_t panel = task * per_task; panel < end; ++panel) {
            const int64_t next = panel + 1 < end ? panel + 1 : end + others;
            body(panel, std::min(next, panels - 1));
        }
    });
}

/** Some rows of x with room for their sums. */
struct RowBlock {
    cpu::Int8Product product;
    cpu::Int8Result result;
};

RowBlock BlockAt(const Int8Rows& x, int64_t first, int32_t* sums, const int8_t* next) {
    const int64_t rows = std::min(kInt8Rows, x.rows() - first);
    RowBlock block = {};
    block.product.a = x.row(first);
    block.product.lda = x.depth();
    block.product.rows = rows;
    block.product.sums = sums;
    block.product.next = next;
    block.result.sums = sums;
    block.result.rows = rows;
    block.result.row_scales = x.scales() + first;
    return block;
}

}  // namespace

void Int8Rows::Resize(int64_t rows, int64_t width) {
    rows_ = rows;
    width_ = width;
    depth_ = (width + cpu::kInt8Depth - 1) / cpu::kInt8Depth * cpu::kInt8Depth;
    values_.Reserve(rows * depth_);
    scales_.Reserve(rows);
}

void Int8Rows::Quantize(const Compute& compute, const float* x, int64_t rows, int64_t width) {
    Resize(rows, width);
    ForEachRow(compute, rows, width, [&](int64_t row, int) {
        scales_.data()[row] = compute.kernels.quantize_row(x + row * width, width,
                                                           values_.data() + row * depth_, depth_);
    });
}

void Int8Rows::QuantizeNormed(const Compute& compute, const float* x, int64_t rows, int64_t width,
                              const float* weight, float eps) {
    Resize(rows, width);
    normed_.Reserve(compute.pool.threads() * depth_);
    ForEachRow(compute, rows, width, [&](int64_t row, int thread) {
        float* normed = normed_.data() + thread * depth_;
        compute.kernels.norm_row(x + row * width, weight, eps, normed, width);
        scales_.data()[row] = compute.kernels.quantize_row(
            normed, width, values_.data() + row * depth_, depth_);
    });
}

void Multiply(const Compute& compute, const Int8Rows& x, const Int8Matrix& weights, float* out,
              bool accumulate) {
    ForEachPanel(compute, weights, [&](int64_t panel, int64_t next) {
        alignas(64) int32_t sums[kInt8Rows * kInt8Columns];
        for (int64_t first = 0; first < x.rows(); first += kInt8Rows) {
            RowBlock block = BlockAt(x, first, sums, weights.panel(next));
            block.result.out = out + first * weights.rows() + panel * kInt8Columns;
            block.result.ldo = weights.rows();
            block.result.accumulate = accumulate;
            weights.Multiply(compute.kernels, panel, block.product);
            compute.kernels.scale_sums(weights.ResultOf(panel, block.result));
        }
    });
}

void MultiplyGated(const Compute& compute, const Int8Rows& x, const Int8Matrix& gate,
                   const Int8Matrix& up, float* out) {
    ForEachPanel(compute, gate, [&](int64_t panel, int64_t next) {
        alignas(64) int32_t gates[kInt8Rows * kInt8Columns];
        alignas(64) int32_t ups[kInt8Rows * kInt8Columns];
        for (int64_t first = 0; first < x.rows(); first += kInt8Rows) {
            const RowBlock gated = BlockAt(x, first, gates, up.panel(panel));
            gate.Multiply(compute.kernels, panel, gated.product);
            RowBlock block = BlockAt(x, first, ups, gate.panel(next));
            block.result.out = out + first * gate.rows() + panel * kInt8Columns;
            block.result.ldo = gate.rows();
            up.Multiply(compute.kernels, panel, block.product);
            compute.kernels.gate_sums(gate.ResultOf(panel, gated.result),
                                      up.ResultOf(panel, block.result));
        }
    });
}

}  // namespace ucm
