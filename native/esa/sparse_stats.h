#pragma once

#include <chrono>
#include <cstdint>

#include "common/counters.h"

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

using Counters = CounterArray<Counter>;

using Clock = std::chrono::steady_clock;

inline int64_t MicrosSince(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
}

}  // namespace ucm::esa
