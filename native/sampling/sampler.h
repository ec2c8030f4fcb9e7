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
 * the logits instead of a sort: three passes at most, whatever the values are. Keeps scratch
 * memory; one call at a time.
 */
class Sampler {
  public:
    explicit Sampler(const cpu::Kernels& kernels) : kernels_(kernels) {}

    /** The index of the first value that is infinite or NaN; -1 when there is none. */
    int64_t FindNonFinite(std::span<const float> logits) const;
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
    /** Where a filter cuts, in falling order of keys. */
    struct Cut {
        uint32_t key;
        /** Weight of the keys above. */
        double above;
    };
    /**
     * The key at which the weight, summed from the greatest key down, reaches `limit`, or the
     * lowest key that has any. candidates_ becomes the ids of that key, rising.
     */
    template <typename Weight>
    Cut FindCut(double limit, Weight weight);
    /** The bin of one level where the limit is reached; adds what lies above it to the cut. */
    uint32_t FindBin(double limit, Cut* cut) const;

    void FillKeys(std::span<const float> logits);
    /** candidates_ becomes the ids of the k greatest logits, lower ids first among equals. */
    void SelectGreatest(std::span<const float> logits, int64_t k);
    void KeepTopK(int64_t k);
    void KeepTopP(double p);
    void DropBelow(uint32_t key);
    /** Sum of weights_; fills block_sums_. */
    double SumWeights();
    int64_t TokenAt(double target) const;

    const cpu::Kernels& kernels_;
    /** Probability of each token relative to the likeliest; 0 when it is dropped. */
    std::vector<float> weights_;
    std::vector<double> block_sums_;
    std::vector<uint32_t> keys_;
    std::vector<int32_t> candidates_;
    std::vector<double> histogram_;
};

}  // namespace ucm
