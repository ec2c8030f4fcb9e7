#include "common/thread_pool.h"

#include <xmmintrin.h>

#include <atomic>
#include <chrono>

#include "test/check.h"

namespace ucm::test {

UCM_TEST(PoolRunsEveryTaskOnce) {
    ThreadPool pool(4);
    UCM_CHECK(pool.threads() == 4);
    for (int round = 0; round < 2000; ++round) {
        const int64_t count = round % 37;
        std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
        // Plain writes: a job's effects must be visible to the caller afterwards.
        std::vector<int64_t> results(static_cast<std::size_t>(count), 0);
        pool.Run(count, [&](int64_t task, int thread) {
            UCM_CHECK(thread >= 0 && thread < 4);
            runs[static_cast<std::size_t>(task)].fetch_add(1);
            results[static_cast<std::size_t>(task)] = task * round;
        });
        for (int64_t task = 0; task < count; ++task) {
            UCM_CHECK(runs[static_cast<std::size_t>(task)].load() == 1);
            UCM_CHECK(results[static_cast<std::size_t>(task)] == task * round);
        }
    }
}

UCM_TEST(PoolWakesSleepingWorkers) {
    ThreadPool pool(3);
    for (int round = 0; round < 5; ++round) {
        // Far beyond the spinning time.
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        std::atomic<int> helpers{0};
        // Each task waits for a second thread, so the job ends only when a worker woke up.
        std::atomic<int> inside{0};
        pool.Run(2, [&](int64_t, int thread) {
            inside.fetch_add(1);
            while (inside.load() < 2) std::this_thread::yield();
            if (thread > 0) helpers.fetch_add(1);
        });
        UCM_CHECK(helpers.load() >= 1);
    }
}

UCM_TEST(PoolChangesSize) {
    ThreadPool pool;
    UCM_CHECK(pool.threads() == 1);
    for (const int threads : {3, 1, 2, 2, 4, 1}) {
        pool.SetThreads(threads);
        UCM_CHECK(pool.threads() == threads);
        std::atomic<int64_t> sum{0};
        pool.Run(100, [&](int64_t task, int) { sum.fetch_add(task); });
        UCM_CHECK(sum.load() == 4950);
    }
}

UCM_TEST(PoolFixesTheFloatMode) {
    ThreadPool pool(2);
    const unsigned before = _mm_getcsr();
    for (const unsigned mode : {0x1f80u, 0x7f80u}) {
        _mm_setcsr(mode);
        std::atomic<int> wrong{0};
        pool.Run(64, [&](int64_t, int) {
            if ((_mm_getcsr() & ~0x3fu) != 0x9fc0u) wrong.fetch_add(1);
        });
        UCM_CHECK(wrong.load() == 0);
        UCM_CHECK((_mm_getcsr() & ~0x3fu) == mode);
    }
    _mm_setcsr(before);
}

}  // namespace ucm::test
