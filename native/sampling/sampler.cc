#include "sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "common/float_mode.h"
#include "tensor/bad_row.h"

namespace ucm {
namespace {

/** A level of the descent reads `bits` bits of the key above `shift`. */
struct Level {
    int shift;
    int bits;
};
constexpr Level kLevels[] = {{19, 13}, {6, 13}, {0, 6}};
/** Weights per partial sum. */
constexpr std::size_t kBlock = 1024;

/** Orders like the float, with -0 equal to 0 and NaN as it falls. */
uint32_t KeyOf(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

}  // namespace

int64_t Sampler::FindNonFinite(std::span<const float> logits) const {
    const auto count = static_cast<int64_t>(logits.size());
    if (kernels_.max_magnitude_bits(logits.data(), count) < kInfinityBits) return -1;
    return std::find_if(logits.begin(), logits.end(), [](float x) { return !std::isfinite(x); }) -
           logits.begin();
}

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

uint32_t Sampler::FindBin(double limit, Cut* cut) const {
    uint32_t lowest = 0;
    while (lowest + 1 < histogram_.size() && histogram_[lowest] <= 0.0) ++lowest;
    auto bin = static_cast<uint32_t>(histogram_.size()) - 1;
    // An empty bin is no answer, even to a limit of 0.
    while (bin > lowest && (histogram_[bin] <= 0.0 || cut->above + histogram_[bin] < limit)) {
        cut->above += histogram_[bin--];
    }
    return bin;
}

template <typename Weight>
Sampler::Cut Sampler::FindCut(double limit, Weight weight) {
    Cut cut = {0, 0.0};
    const auto [top_shift, top_bits] = kLevels[0];
    histogram_.assign(std::size_t{1} << top_bits, 0.0);
    for (std::size_t i = 0; i < keys_.size(); ++i) histogram_[keys_[i] >> top_shift] += weight(i);
    const uint32_t top_bin = FindBin(limit, &cut);
    cut.key = top_bin << top_shift;
    candidates_.clear();
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        if (keys_[i] >> top_shift == top_bin && weight(i) > 0.0) {
            candidates_.push_back(static_cast<int32_t>(i));
        }
    }
    for (const auto& [shift, bits] : std::span(kLevels).subspan(1)) {
        const auto bin_of = [&, shift = shift, mask = (1u << bits) - 1](int32_t id) {
            return (keys_[static_cast<std::size_t>(id)] >> shift) & mask;
        };
        histogram_.assign(std::size_t{1} << bits, 0.0);
        for (const int32_t id : candidates_) {
            histogram_[bin_of(id)] += weight(static_cast<std::size_t>(id));
        }
        const uint32_t bin = FindBin(limit, &cut);
        cut.key |= bin << shift;
        std::erase_if(candidates_, [&](int32_t id) { return bin_of(id) != bin; });
    }
    return cut;
}

double Sampler::SumWeights() {
    block_sums_.clear();
    double total = 0.0;
    for (std::size_t begin = 0; begin < weights_.size(); begin += kBlock) {
        const std::size_t end = std::min(weights_.size(), begin + kBlock);
        // Four sums, so that additions overlap.
        double sums[4] = {};
        std::size_t i = begin;
        for (; i + 4 <= end; i += 4) {
            for (std::size_t j = 0; j < 4; ++j) sums[j] += weights_[i + j];
        }
        for (; i < end; ++i) sums[0] += weights_[i];
        block_sums_.push_back((sums[0] + sums[1]) + (sums[2] + sums[3]));
        total += block_sums_.back();
    }
    return total;
}

/** The first token at which the running sum of weights passes `target`. */
int64_t Sampler::TokenAt(double target) const {
    double before = 0.0;
    // The last block, and token, of any weight answers when rounding leaves the sums short.
    std::size_t chosen = 0;
    double before_chosen = 0.0;
    for (std::size_t block = 0; block < block_sums_.size(); ++block) {
        if (block_sums_[block] <= 0.0) continue;
        chosen = block;
        before_chosen = before;
        before += block_sums_[block];
        if (before > target) break;
    }
    std::size_t token = 0;
    double sum = before_chosen;
    const std::size_t end = std::min(weights_.size(), (chosen + 1) * kBlock);
    for (std::size_t i = chosen * kBlock; i < end; ++i) {
        if (weights_[i] <= 0.0f) continue;
        sum += weights_[i];
        token = i;
        if (sum > target) break;
    }
    return static_cast<int64_t>(token);
}

void Sampler::DropBelow(uint32_t key) {
    for (std::size_t i = 0; i < weights_.size(); ++i) {
        weights_[i] = keys_[i] < key ? 0.0f : weights_[i];
    }
}

/** Drops what is below the k-th greatest logit. */
void Sampler::KeepTopK(int64_t k) {
    const Cut cut = FindCut(static_cast<double>(k),
                            [this](std::size_t id) { return weights_[id] > 0.0f ? 1.0 : 0.0; });
    DropBelow(cut.key);
}

/** Keeps a token while the mass of those before it, in falling order, is below p. */
void Sampler::KeepTopP(double p) {
    const double limit = p * SumWeights();
    const Cut cut = FindCut(limit, [this](std::size_t id) { return double{weights_[id]}; });
    DropBelow(cut.key);
    const auto ties = static_cast<double>(candidates_.size());
    const double each = weights_[static_cast<std::size_t>(candidates_.front())];
    const double kept = std::clamp(std::ceil((limit - cut.above) / each), 1.0, ties);
    for (const int32_t id : std::span(candidates_).subspan(static_cast<std::size_t>(kept))) {
        weights_[static_cast<std::size_t>(id)] = 0.0f;
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
    *token = TokenAt(spec.uniform * SumWeights());
    return Status::Ok();
}

void Sampler::SelectGreatest(std::span<const float> logits, int64_t k) {
    candidates_.clear();
    if (k == 0) return;
    FillKeys(logits);
    const Cut cut = FindCut(static_cast<double>(k), [](std::size_t) { return 1.0; });
    auto ties = k - static_cast<int64_t>(cut.above);
    candidates_.clear();
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        if (keys_[i] > cut.key || (keys_[i] == cut.key && ties-- > 0)) {
            candidates_.push_back(static_cast<int32_t>(i));
        }
    }
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
    const double normaliser = max + std::log(SumWeights());
    const auto logprob = [&](int64_t id) {
        return static_cast<float>(logits[static_cast<std::size_t>(id)] - normaliser);
    };
    const float own = logits[static_cast<std::size_t>(token)];
    top->token_logprob = logprob(token);
    top->token_rank =
        1 + std::count_if(logits.begin(), logits.end(), [own](float logit) { return logit > own; });
    SelectGreatest(logits, k < 0 ? count : std::min(k, count));
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
