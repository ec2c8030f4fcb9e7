#include "sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "common/float_mode.h"

namespace ucm {
namespace {

/** Bit widths of the three levels of the descent, from the top of the key. */
constexpr int kLevelBits[] = {13, 13, 6};

/** Orders like the float, with -0 equal to 0 and NaN as it falls. */
uint32_t KeyOf(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

}  // namespace

int64_t Sampler::Argmax(std::span<const float> logits) const {
    const ScopedFloatMode float_mode;
    const auto count = static_cast<int64_t>(logits.size());
    const float max = kernels_.max_value(logits.data(), count);
    const auto found = std::find(logits.begin(), logits.end(), max);
    return found == logits.end() ? 0 : found - logits.begin();
}

void Sampler::FillKeys(std::span<const float> logits) {
    keys_.resize(logits.size());
    std::transform(logits.begin(), logits.end(), keys_.begin(), KeyOf);
}

template <typename Weight>
void Sampler::Descend(int shift, int bits, double limit, Weight weight, Cut* cut) {
    const uint32_t mask = (1u << bits) - 1;
    histogram_.assign(std::size_t{1} << bits, 0.0);
    for (const int32_t id : candidates_) {
        histogram_[(keys_[static_cast<std::size_t>(id)] >> shift) & mask] += weight(id);
    }
    uint32_t lowest = mask;
    for (const int32_t id : candidates_) {
        lowest = std::min(lowest, (keys_[static_cast<std::size_t>(id)] >> shift) & mask);
    }
    uint32_t bin = mask;
    while (bin > lowest && cut->above + histogram_[bin] < limit) cut->above += histogram_[bin--];
    cut->key |= bin << shift;
    std::erase_if(candidates_, [&](int32_t id) {
        return ((keys_[static_cast<std::size_t>(id)] >> shift) & mask) != bin;
    });
}

template <typename Weight>
Sampler::Cut Sampler::FindCut(double limit, Weight weight) {
    Cut cut = {0, 0.0, 0};
    int shift = 32;
    for (const int bits : kLevelBits) {
        shift -= bits;
        Descend(shift, bits, limit, weight, &cut);
    }
    cut.ties = static_cast<int64_t>(candidates_.size());
    return cut;
}

double Sampler::TotalWeight() const {
    // Four sums, so that additions overlap.
    double sums[4] = {};
    for (std::size_t i = 0; i < weights_.size(); ++i) sums[i % 4] += weights_[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/** Drops what is below the k-th greatest logit. */
void Sampler::KeepTopK(int64_t k) {
    candidates_.clear();
    for (std::size_t i = 0; i < weights_.size(); ++i) {
        if (weights_[i] > 0.0f) candidates_.push_back(static_cast<int32_t>(i));
    }
    if (k >= static_cast<int64_t>(candidates_.size())) return;
    const Cut cut = FindCut(static_cast<double>(k), [](int32_t) { return 1.0; });
    for (std::size_t i = 0; i < weights_.size(); ++i) {
        if (keys_[i] < cut.key) weights_[i] = 0.0f;
    }
}

/** Keeps a token while the mass of those before it, in falling order, is below p. */
void Sampler::KeepTopP(double p) {
    candidates_.clear();
    for (std::size_t i = 0; i < weights_.size(); ++i) {
        if (weights_[i] > 0.0f) candidates_.push_back(static_cast<int32_t>(i));
    }
    const double limit = p * TotalWeight();
    const Cut cut = FindCut(limit, [this](int32_t id) {
        return static_cast<double>(weights_[static_cast<std::size_t>(id)]);
    });
    const double each = weights_[static_cast<std::size_t>(candidates_.front())];
    const double wanted = std::ceil((limit - cut.above) / each);
    auto kept = static_cast<int64_t>(std::clamp(wanted, 1.0, static_cast<double>(cut.ties)));
    for (std::size_t i = 0; i < weights_.size(); ++i) {
        if (keys_[i] > cut.key || (keys_[i] == cut.key && kept-- > 0)) continue;
        weights_[i] = 0.0f;
    }
}

Status Sampler::Draw(std::span<const float> logits, const DrawSpec& spec, int64_t* token) {
    const ScopedFloatMode float_mode;
    const auto count = static_cast<int64_t>(logits.size());
    const float max = kernels_.max_value(logits.data(), count);
    if (!std::isfinite(max)) {
        return Status::InvalidArgument(
            "draw: the greatest logit is not finite; expected at least one finite logit and no "
            "infinity");
    }
    weights_.resize(logits.size());
    // Bounded, so that the greatest logit, at a difference of 0, keeps its weight of 1.
    const float factor = std::min(1.0f / spec.temperature, 1e30f);
    kernels_.exp_shifted(logits.data(), max, factor, weights_.data(), count);
    const bool top_k = spec.top_k > 0 && spec.top_k < count;
    const bool top_p = spec.top_p < 1.0;
    // The greatest weight is 1. The comparison also drops the weight of a NaN.
    for (float& weight : weights_) weight = weight >= spec.min_p ? weight : 0.0f;
    if (top_k || top_p) FillKeys(logits);
    if (top_k) KeepTopK(spec.top_k);
    if (top_p) KeepTopP(spec.top_p);
    const double target = spec.uniform * TotalWeight();
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i) {
        const float weight = weights_[static_cast<std::size_t>(i)];
        if (weight <= 0.0f) continue;
        sum += weight;
        // The last kept token answers when rounding leaves the sum short of the target.
        *token = i;
        if (sum > target) break;
    }
    return Status::Ok();
}

Status Sampler::Top(std::span<const float> logits, int64_t k, int64_t token, TopLogprobs* top) {
    const ScopedFloatMode float_mode;
    const auto count = static_cast<int64_t>(logits.size());
    const float max = kernels_.max_value(logits.data(), count);
    if (!std::isfinite(max)) {
        return Status::InvalidArgument("topLogprobs: the greatest logit is not finite");
    }
    weights_.resize(logits.size());
    kernels_.exp_shifted(logits.data(), max, 1.0f, weights_.data(), count);
    const double normaliser = max + std::log(TotalWeight());
    const auto logprob = [&](int64_t id) {
        return static_cast<float>(logits[static_cast<std::size_t>(id)] - normaliser);
    };
    const float own = logits[static_cast<std::size_t>(token)];
    top->token_logprob = logprob(token);
    top->token_rank = 1 + std::count_if(logits.begin(), logits.end(),
                                        [own](float logit) { return logit > own; });
    const int64_t wanted = k < 0 ? count : std::min(k, count);
    FillKeys(logits);
    candidates_.resize(logits.size());
    for (int64_t i = 0; i < count; ++i) candidates_[static_cast<std::size_t>(i)] = static_cast<int32_t>(i);
    if (wanted > 0 && wanted < count) {
        const Cut cut = FindCut(static_cast<double>(wanted), [](int32_t) { return 1.0; });
        auto ties = wanted - static_cast<int64_t>(cut.above);
        candidates_.clear();
        for (int64_t i = 0; i < count; ++i) {
            const uint32_t key = keys_[static_cast<std::size_t>(i)];
            if (key > cut.key || (key == cut.key && ties-- > 0)) {
                candidates_.push_back(static_cast<int32_t>(i));
            }
        }
    }
    candidates_.resize(static_cast<std::size_t>(wanted));
    std::sort(candidates_.begin(), candidates_.end(), [this](int32_t a, int32_t b) {
        const uint32_t key_a = keys_[static_cast<std::size_t>(a)];
        const uint32_t key_b = keys_[static_cast<std::size_t>(b)];
        return key_a != key_b ? key_a > key_b : a < b;
    });
    top->token_ids = candidates_;
    top->logprobs.clear();
    for (const int32_t id : candidates_) top->logprobs.push_back(logprob(id));
    return Status::Ok();
}

}  // namespace ucm
