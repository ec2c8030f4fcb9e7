#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

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

/** Seconds of the middle one of several runs of `body`, after one to warm up. */
template <typename Body>
double MedianSeconds(int runs, Body body) {
    std::vector<double> seconds(static_cast<std::size_t>(runs));
    body();
    for (double& taken : seconds) {
        const auto start = std::chrono::steady_clock::now();
        body();
        taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
}

/** Highest read rate of memory far beyond the caches, in bytes per second. */
double MeasureReadBandwidth(ThreadPool& pool);

/** Highest rate of fp32 multiply-adds with `width` lanes (16, 8 or 1), two operations each, per
 * second. */
double MeasureFlops(ThreadPool& pool, int64_t width);

/** Highest rate of multiply-adds of bfloat16 pairs (AVX-512 BF16), two operations each, per second; 0
 * on a processor without them. */
double MeasureBf16Flops(ThreadPool& pool);

/** Highest rate of 8-bit multiply-adds into 32-bit sums (AVX-512 VNNI), two operations each, per
 * second; 0 on a processor without them. */
double MeasureInt8Ops(ThreadPool& pool);

}  // namespace ucm::bench
