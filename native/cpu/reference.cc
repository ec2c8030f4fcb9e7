#include "cpu/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ucm::cpu {
namespace {

/** Digits of the significand, least exponent of a normal number and greatest finite value. */
struct Format {
    int digits;
    int least_exponent;
    double greatest;
};

Format FormatOf(Dtype dtype) {
    switch (dtype) {
        case Dtype::kBfloat16: return {8, -126, 0x1.fep127};
        case Dtype::kFloat16: return {11, -14, 65504.0};
        case Dtype::kFloat32: break;
    }
    return {24, -126, static_cast<double>(std::numeric_limits<float>::max())};
}

std::vector<double> PrepareHead(const ReferenceHead& head, const float* x, const float* norm,
                                int64_t position) {
    std::vector<double> out(x, x + head.head_dim);
    if (norm != nullptr) {
        double squares = 0.0;
        for (const double value : out) squares += value * value;
        const double factor =
            1.0 / std::sqrt(squares / static_cast<double>(head.head_dim) + head.norm_eps);
        for (std::size_t i = 0; i < out.size(); ++i) out[i] *= factor * norm[i];
    }
    const std::size_t half = head.inv_freq.size();
    for (std::size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * head.inv_freq[i];
        const double cos = std::cos(angle) * head.rope_scale;
        const double sin = std::sin(angle) * head.rope_scale;
        const double a = out[i];
        const double b = out[i + half];
        out[i] = a * cos - b * sin;
        out[i + half] = b * cos + a * sin;
    }
    return out;
}

}  // namespace

double ReferenceRound(double x, Dtype dtype) {
    if (!std::isfinite(x) || x == 0.0) return x;
    const Format format = FormatOf(dtype);
    const int exponent = std::max(std::ilogb(x), format.least_exponent);
    const double unit = std::ldexp(1.0, exponent - format.digits + 1);
    const double rounded = std::nearbyint(x / unit) * unit;
    if (std::abs(rounded) <= format.greatest) return rounded;
    return std::copysign(std::numeric_limits<double>::infinity(), x);
}

std::vector<double> ReferenceAttention(const ReferenceHead& head) {
    const std::vector<double> q = PrepareHead(head, head.q, head.q_norm, head.position);
    const double scale = 1.0 / std::sqrt(static_cast<double>(head.head_dim));
    std::vector<double> scores;
    for (int64_t position = 0; position <= head.position; ++position) {
        const std::vector<double> k =
            PrepareHead(head, head.k + position * head.stride, head.k_norm, position);
        double score = 0.0;
        for (std::size_t i = 0; i < q.size(); ++i) {
            score += q[i] * ReferenceRound(k[i], head.dtype);
        }
        scores.push_back(score * scale);
    }
    const double max = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0;
    std::vector<double> out(q.size(), 0.0);
    for (std::size_t position = 0; position < scores.size(); ++position) {
        const double weight = std::exp(scores[position] - max);
        sum += weight;
        const float* v = head.v + static_cast<int64_t>(position) * head.stride;
        for (std::size_t i = 0; i < out.size(); ++i) {
            out[i] += weight * ReferenceRound(v[i], head.dtype);
        }
    }
    for (double& value : out) value /= sum;
    return out;
}

}  // namespace ucm::cpu
