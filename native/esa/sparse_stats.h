#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace ucm::esa {

/** What is counted, under the names of SparseStats in src/native/sparse-types.ts. */
#define UCM_SPARSE_COUNTERS(X)               \
    X(kSelections, "selections")             \
    X(kEarlySelections, "earlySelections")   \
    X(kSelectMicros, "selectMicros")         \
    X(kLoadMicros, "loadMicros")             \
    X(kLoadedPieces, "loadedPieces")         \
    X(kKeptPieces, "keptPieces")             \
    X(kLateSteps, "lateSteps")               \
    X(kWaitMicros, "waitMicros")             \
    X(kLostSequences, "lostSequences")       \
    X(kSwitchMicros, "switchMicros")

enum class Counter : uint8_t {
#define UCM_SPARSE_ENUMERATOR(id, name) id,
    UCM_SPARSE_COUNTERS(UCM_SPARSE_ENUMERATOR)
#undef UCM_SPARSE_ENUMERATOR
        kCount
};

/** Counts from any thread. */
class Counters {
  public:
    void Add(Counter counter, int64_t amount = 1) {
        values_[static_cast<std::size_t>(counter)].fetch_add(amount, std::memory_order_relaxed);
    }
    int64_t Get(Counter counter) const {
        return values_[static_cast<std::size_t>(counter)].load(std::memory_order_relaxed);
    }

  private:
    std::array<std::atomic<int64_t>, static_cast<std::size_t>(Counter::kCount)> values_{};
};

using Clock = std::chrono::steady_clock;

inline int64_t MicrosSince(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
}

}  // namespace ucm::esa
