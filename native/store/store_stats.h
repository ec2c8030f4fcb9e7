#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

namespace ucm {

/** What a tier counts, under the names that its statistics have. */
#define UCM_STORE_COUNTERS(X)                                     \
    X(kLookups, "lookups") /* blocks asked for */                 \
    X(kLookupHits, "lookupHits")                                  \
    X(kLoadedBlocks, "loadedBlocks")                              \
    X(kLoadedBytes, "loadedBytes")                                \
    X(kLoadedPieces, "loadedPieces") /* single layers */          \
    X(kLoadMisses, "loadMisses")                                  \
    X(kLoadFailures, "loadFailures")                              \
    X(kLoadTimeouts, "loadTimeouts")                              \
    X(kLoadMicros, "loadMicros") /* thread time */                \
    X(kDumpedBlocks, "dumpedBlocks")                              \
    X(kDumpedBytes, "dumpedBytes")                                \
    X(kDumpDuplicates, "dumpDuplicates") /* were there already */ \
    X(kDumpsRefused, "dumpsRefused")                              \
    X(kDumpFailures, "dumpFailures")                              \
    X(kDumpsDropped, "dumpsDropped") /* write queue was full */   \
    X(kDumpMicros, "dumpMicros") /* thread time */                \
    X(kCorruptBlocks, "corruptBlocks")                            \
    X(kQuarantinedBlocks, "quarantinedBlocks")                    \
    X(kEvictedBlocks, "evictedBlocks")                            \
    X(kEvictedBytes, "evictedBytes")                              \
    X(kReclaimedFiles, "reclaimedFiles") /* of dead writers */

enum class Counter : uint8_t {
#define UCM_STORE_ENUMERATOR(id, name) id,
    UCM_STORE_COUNTERS(UCM_STORE_ENUMERATOR)
#undef UCM_STORE_ENUMERATOR
        kCount
};

class Counters {
  public:
    void Add(Counter counter, int64_t amount = 1) {
        values_[static_cast<std::size_t>(counter)].fetch_add(amount, std::memory_order_relaxed);
    }
    int64_t Get(Counter counter) const {
        return values_[static_cast<std::size_t>(counter)].load(std::memory_order_relaxed);
    }
    std::vector<std::pair<const char*, int64_t>> Values() const {
        std::vector<std::pair<const char*, int64_t>> values;
#define UCM_STORE_VALUE(id, name) values.emplace_back(name, Get(Counter::id));
        UCM_STORE_COUNTERS(UCM_STORE_VALUE)
#undef UCM_STORE_VALUE
        return values;
    }

  private:
    std::array<std::atomic<int64_t>, static_cast<std::size_t>(Counter::kCount)> values_{};
};

}  // namespace ucm
