#pragma once

#include <time.h>

#include <algorithm>
#include <vector>

#include "common/thread_pool.h"
#include "cpu/kernels.h"

namespace ucm::bench {

/** What benchmarks count: time that passes, or that the process computes on all its threads. */
enum class Timer { kWall, kProcessorTime };
inline Timer g_timer = Timer::kWall;

inline double SecondsNow() {
    timespec time;
    clock_gettime(g_timer == Timer::kWall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/** Seconds of several runs of `body`, after one to warm up, in rising order. */
template <typename Body>
std::vector<double> SortedSeconds(int runs, Body body) {
    std::vector<double> seconds;
    body();
    for (int run = 0; run < runs; ++run) {
        const double start = SecondsNow();
        body();
        seconds.push_back(SecondsNow() - start);
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds;
}

template <typename Body>
double BestSeconds(int runs, Body body) {
    return SortedSeconds(runs, body).front();
}

template <typename Body>
double MedianSeconds(int runs, Body body) {
    return SortedSeconds(runs, body)[static_cast<std::size_t>(runs / 2)];
}

/** Highest read rate of memory far beyond the caches, in bytes per second. */
double MeasureReadBandwidth(ThreadPool& pool);

/** Highest rate of fp32 multiply-adds with `width` lanes (16, 8 or 1), two operations each, per
 * second. */
double MeasureFlops(ThreadPool& pool, int64_t width);

/** Highest rate of multiply-adds of bfloat16 pairs as the kernels have them (AMX tiles, or AVX-512 BF16),
 * two operations each, per second; 0 on a processor without them. */
double MeasureBf16Flops(ThreadPool& pool, const cpu::Kernels& kernels);

/** Highest rate of 8-bit multiply-adds into 32-bit sums (AMX tiles, or AVX-512 VNNI), two operations
 * each, per second; 0 on a processor without them. */
double MeasureInt8Ops(ThreadPool& pool);

}  // namespace ucm::bench
