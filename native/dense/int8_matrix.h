#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/aligned_buffer.h"
#include "common/status.h"
#include "tensor/tensor.h"

namespace ucm {

/**
 * int8 weights of a linear layer, [rows, cols] as checkpoints have them: an output per row, whose scale is
 * max |row| / 127. They lie in panels of cpu::kInt8Columns outputs, `[cols / 4][outputs][4]`, cols padded
 * with zeros, in the order in which a product reads them. Not thread-safe while rows are set.
 */
class Int8Matrix {
  public:
    /** Fails on sizes below 1, on cols above 2^16 and on too little memory. */
    static Status Create(int64_t rows, int64_t cols, std::unique_ptr<Int8Matrix>* matrix);
    ~Int8Matrix();
    Int8Matrix(const Int8Matrix&) = delete;
    Int8Matrix& operator=(const Int8Matrix&) = delete;

    /**
     * Quantizes `values` [count, cols] as rows first to first + count - 1. Fails on a value that is not
     * finite.
     */
    Status SetRows(const Compute& compute, const float* values, int64_t first, int64_t count);
    /** What is added to the outputs, [rows]; zero until it is set. */
    void SetBias(std::span<const float> bias);

    int64_t rows() const { return rows_; }
    int64_t cols() const { return cols_; }
    /** cols padded to a multiple of cpu::kInt8Depth. */
    int64_t depth() const { return depth_; }
    int64_t panels() const { return panels_; }
    /** [depth / 4][cpu::kInt8Columns][4] */
    const int8_t* panel(int64_t index) const { return data_ + index * cpu::kInt8Columns * depth_; }
    /** The sums of a panel's products with some rows; `product` has all but what is the panel's. */
    void Multiply(const cpu::Kernels& kernels, int64_t panel, cpu::Int8Product product) const;
    /** `result` with what is the panel's: how many columns, their scales and biases. */
    cpu::Int8Result ResultOf(int64_t panel, cpu::Int8Result result) const;

  private:
    Int8Matrix(int64_t rows, int64_t cols, int8_t* data);

    const int64_t rows_;
    const int64_t cols_;
    const int64_t depth_;
    const int64_t panels_;
    int8_t* const data_;
    AlignedBuffer<int32_t> offsets_;
    AlignedBuffer<float> scales_;
    AlignedBuffer<float> bias_;
};

/** Rows of activations in bytes with a scale each, in the form that products take. */
class Int8Rows {
  public:
    /** Of `x` [rows, width]. */
    void Quantize(const Compute& compute, const float* x, int64_t rows, int64_t width);
    /** Of the RMS norm of `x`. */
    void QuantizeNormed(const Compute& compute, const float* x, int64_t rows, int64_t width,
                        const float* weight, float eps);

    int64_t rows() const { return rows_; }
    int64_t width() const { return width_; }
    const uint8_t* row(int64_t i) const { return values_.data() + i * depth_; }
    /** Bytes from row to row. */
    int64_t depth() const { return depth_; }
    const float* scales() const { return scales_.data(); }

  private:
    void Resize(int64_t rows, int64_t width);

    int64_t rows_ = 0;
    int64_t width_ = 0;
    int64_t depth_ = 0;
    AlignedBuffer<uint8_t> values_;
    AlignedBuffer<float> scales_;
    /** A row per thread. */
    AlignedBuffer<float> normed_;
};

/** out [x.rows, weights.rows] (+)= x W^T + bias. */
void Multiply(const Compute& compute, const Int8Rows& x, const Int8Matrix& weights, float* out,
              bool accumulate);

/** out [x.rows, gate.rows] = silu(x Wg^T + bias) * (x Wu^T + bias); both have the same shape. */
void MultiplyGated(const Compute& compute, const Int8Rows& x, const Int8Matrix& gate,
                   const Int8Matrix& up, float* out);

}  // namespace ucm
