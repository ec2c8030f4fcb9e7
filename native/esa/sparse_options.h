#pragma once

#include <chrono>
#include <cstdint>

namespace ucm::esa {

enum class Score { kRepresentation, kRandom, kOracle };
enum class GroupReduce { kMax, kMean };

/** See SparseSpec of src/native/sparse-types.ts. */
struct SparseOptions {
    Score score = Score::kRepresentation;
    GroupReduce group_reduce = GroupReduce::kMax;
    bool first_by_mass = true;
    int64_t dense_layers = 0;
    int64_t stride = 5;
    double next_share = 0.0;
    double drift_cosine = 0.0;
    int64_t recall_every = 0;
    std::chrono::milliseconds wait{1000};
    uint64_t seed = 0;
};

/** What is kept of a prompt, in blocks; see SparseBudget of src/native/sparse-types.ts. */
struct SparseBudget {
    int64_t init = 0;
    int64_t candidates = 0;
    int64_t top_k = 0;

    /** Whether there is anything to choose: neither all candidates nor none. */
    bool IsChoice() const { return top_k > 0 && top_k < candidates; }
};

}  // namespace ucm::esa
