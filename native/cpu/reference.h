#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/kernels.h"

namespace ucm::cpu {

/** One head's causal attention for one row, in float64; for tests. Rows are as the model gives
 * them. */
struct ReferenceHead {
    int64_t head_dim;
    /** Position of the query; it sees keys 0 … position. */
    int64_t position;
    const float* q;
    /** Key and value of position p: at k + p * stride, v + p * stride. */
    const float* k;
    const float* v;
    int64_t stride;
    /** Empty for no rotation; pair (i, i + size) turns by position * inv_freq[i]. */
    std::span<const double> inv_freq;
    double rope_scale;
    /** [head_dim] or null. */
    const float* q_norm;
    const float* k_norm;
    double norm_eps;
    /** Keys and values are rounded to it. */
    Dtype dtype;
};

/** The attention output, [head_dim]. */
std::vector<double> ReferenceAttention(const ReferenceHead& head);

/** The nearest value of `dtype`, ties to even; found by arithmetic, not by bit patterns. */
double ReferenceRound(double x, Dtype dtype);

}  // namespace ucm::cpu
