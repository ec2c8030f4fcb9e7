#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "common/counters.h"

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

class Counters : public CounterArray<Counter> {
  public:
    std::vector<std::pair<const char*, int64_t>> Values() const {
        std::vector<std::pair<const char*, int64_t>> values;
#define UCM_STORE_VALUE(id, name) values.emplace_back(name, Get(Counter::id));
        UCM_STORE_COUNTERS(UCM_STORE_VALUE)
#undef UCM_STORE_VALUE
        return values;
    }
};

}  // namespace ucm
