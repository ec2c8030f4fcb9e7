#pragma once

#include <time.h>

#include <algorithm>
#include <string>
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

/** What the machine does at best right now; operations count multiply and add apart. */
struct Roofs {
    /** Of memory far beyond the caches. */
    double read_bytes_per_s;
    double fp32_flops_per_s;
    /** Of bfloat16 pairs (AMX tiles, or AVX-512 BF16); 0 of kernels without them. */
    double bf16_flops_per_s;
    /** Of bytes, added up in 32 bits (AMX tiles, AVX-512 VNNI, or AVX2); 0 of kernels without vectors. */
    double int8_ops_per_s;
};

/** The roofs of the instructions that `kernels` are made of, on all threads of the pool. */
Roofs MeasureRoofs(ThreadPool& pool, const cpu::Kernels& kernels);

/** Members of a JSON object: the instruction set, the threads, and the roofs under `...PerS`. */
std::string JsonOf(const Roofs& roofs, const cpu::Kernels& kernels, const ThreadPool& pool);

}  // namespace ucm::bench
