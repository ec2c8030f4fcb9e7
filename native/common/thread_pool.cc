#include "common/thread_pool.h"

#include <immintrin.h>

#include <chrono>

#include "common/float_mode.h"

namespace ucm {
namespace {

constexpr uint64_t kOpen = 1ull << 31;
constexpr uint64_t kInsideMask = kOpen - 1;
constexpr std::chrono::microseconds kSpin{30};
/** Pauses between two looks at the clock. */
constexpr int kPausesPerLook = 32;

uint64_t EpochOf(uint64_t state) { return state >> 32; }

/** Spins until `done()` holds; false when the spinning time is over first. */
template <typename Done>
bool SpinUntil(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < kPausesPerLook; ++i) {
            if (done()) return true;
            _mm_pause();
        }
    } while (std::chrono::steady_clock::now() < deadline);
    return false;
}

}  // namespace

void ThreadPool::SetThreads(int threads) {
    if (threads == this->threads()) return;
    StopWorkers();
    stop_.store(false);
    workers_.reserve(static_cast<std::size_t>(threads - 1));
    // Read here: a worker that starts late may still join a job that opened meanwhile.
    const uint64_t last_epoch = EpochOf(state_.load());
    for (int i = 1; i < threads; ++i) {
        workers_.emplace_back([this, i, last_epoch] { WorkerLoop(i, last_epoch); });
    }
}

void ThreadPool::StopWorkers() {
    {
        const std::lock_guard lock(mutex_);
        stop_.store(true);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
}

void ThreadPool::RunTasks(int64_t count, TaskFunction function, void* context) {
    const ScopedFloatMode float_mode;
    if (workers_.empty() || count <= 1) {
        for (int64_t task = 0; task < count; ++task) function(context, task, 0);
        return;
    }
    function_ = function;
    context_ = context;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    const uint64_t epoch = EpochOf(state_.load(std::memory_order_relaxed)) + 1;
    // Sequentially consistent against sleepers_: either we see the sleeper or it sees the job.
    state_.store(epoch << 32 | kOpen);
    if (sleepers_.load() > 0) {
        const std::lock_guard lock(mutex_);
        wake_.notify_all();
    }
    ClaimTasks(0);
    state_.fetch_and(~kOpen);
    const auto all_left = [this] { return (state_.load() & kInsideMask) == 0; };
    while (!SpinUntil(all_left)) std::this_thread::yield();
}

void ThreadPool::ClaimTasks(int thread) {
    for (;;) {
        const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
        if (task >= count_) return;
        function_(context_, task, thread);
    }
}

void ThreadPool::WorkerLoop(int thread, uint64_t last_epoch) {
    const ScopedFloatMode float_mode;
    while (!stop_.load()) {
        if (TryJoin(&last_epoch)) {
            ClaimTasks(thread);
            state_.fetch_sub(1);
        }
        if (!SpinUntil([&] { return HasNews(last_epoch); })) SleepUntilWork(last_epoch);
    }
}

bool ThreadPool::TryJoin(uint64_t* last_epoch) {
    uint64_t state = state_.load();
    while ((state & kOpen) != 0 && EpochOf(state) != *last_epoch) {
        if (state_.compare_exchange_weak(state, state + 1)) {
            *last_epoch = EpochOf(state);
            return true;
        }
    }
    return false;
}

bool ThreadPool::HasNews(uint64_t last_epoch) const {
    const uint64_t state = state_.load();
    return ((state & kOpen) != 0 && EpochOf(state) != last_epoch) || stop_.load();
}

void ThreadPool::SleepUntilWork(uint64_t last_epoch) {
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, [&] { return HasNews(last_epoch); });
    sleepers_.fetch_sub(1);
}

}  // namespace ucm
