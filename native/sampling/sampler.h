#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/status.h"
#include "cpu/kernels.h"

namespace ucm {

/** See DrawSpec of src/native/types.ts. */
struct DrawSpec {
    float temperature;
    /** 0 or less: no limit. */
    int64_t top_k;
    double top_p;
    float min_p;
    double uniform;
};

struct TopLogprobs {
    std::vector<int32_t> token_ids;
    std::vector<float> logprobs;
    float token_logprob;
    int64_t token_rank;
};

/**
 * Sampling of one row of logits. Filters find their cut by a radix descent over the bit patterns of
 * the logits instead of a sort: three passes at most, whatever the values are. Keeps scratch memory;
 * one call at a time.
 */
class Sampler {
  public:
    explicit Sampler(const cpu::Kernels& kernels) : kernels_(kernels) {}

    /** The lowest index of the greatest value; 0 when all are NaN or -infinity. */
    int64_t Argmax(std::span<const float> logits) const;

    /**
     * Temperature, min_p, top_k, top_p as vLLM applies them, then inverse CDF in id order. Equal
     * logits at the k-th place are all kept; equal ones at the edge of top_p are kept in id order.
     */
    Status Draw(std::span<const float> logits, const DrawSpec& spec, int64_t* token);

    /** k greatest (-1: all) of log-softmax(logits), and the token's own. */
    Status Top(std::span<const float> logits, int64_t k, int64_t token, TopLogprobs* top);

  private:
    /** Where a filter cuts: keys above `key` stay, and of those equal to it the first in id order. */
    struct Cut {
        uint32_t key;
        /** Weight of the keys above. */
        double above;
        int64_t ties;
    };
    /** Walks down from the greatest key until the weight reaches `limit`. */
    template <typename Weight>
    Cut FindCut(double limit, Weight weight);
    /** Reads candidates_ and keys_, leaves the next level's candidates. */
    template <typename Weight>
    void Descend(int shift, int bits, double limit, Weight weight, Cut* cut);

    void FillKeys(std::span<const float> logits);
    void KeepTopK(int64_t k);
    void KeepTopP(double p);
    double TotalWeight() const;

    const cpu::Kernels& kernels_;
    std::vector<float> weights_;
    std::vector<uint32_t> keys_;
    std::vector<int32_t> candidates_;
    std::vector<double> histogram_;
};

}  // namespace ucm
