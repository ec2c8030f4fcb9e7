#pragma once

#include <algorithm>
#include <chrono>

#include "common/thread_pool.h"

namespace ucm::bench {

/** Seconds of the fastest of several runs of `body`, after one to warm up. */
template <typename Body>
double BestSeconds(int runs, Body body) {
    body();
    double best = 1e30;
    for (int run = 0; run < runs; ++run) {
        const auto start = std::chrono::steady_clock::now();
        body();
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        best = std::min(best, elapsed.count());
    }
    return best;
}

/** Highest read rate of memory far beyond the caches, in bytes per second. */
double MeasureReadBandwidth(ThreadPool& pool);

/** The same for pieces of `piece_bytes` in random order, each prefetched while the one before is
 * read. */
double MeasureScatteredBandwidth(ThreadPool& pool, int64_t piece_bytes);

/** Highest rate of fp32 multiply-adds with `width` lanes (16, 8 or 1), two operations each, per
 * second. */
double MeasureFlops(ThreadPool& pool, int64_t width);

/** Highest rate of 8-bit multiply-adds into 32-bit sums (AVX-512 VNNI), two operations each, per
 * second; 0 on a processor without them. */
double MeasureInt8Ops(ThreadPool& pool);

}  // namespace ucm::bench
