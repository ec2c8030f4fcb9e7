#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace ucm {

/**
 * Parallel-for over a list of tasks: the calling thread and `threads - 1` workers claim tasks in
 * order. Only workers that joined in time are waited for, so a sleeping worker never delays a job
 * that the caller finishes alone. Idle workers spin for a few tens of microseconds and then sleep,
 * which leaves the cores to other pools of the process. One job at a time; not re-entrant.
 */
class ThreadPool {
  public:
    /** Called with (context, task, thread); `thread` is in [0, threads()), 0 for the caller. */
    using TaskFunction = void (*)(void* context, int64_t task, int thread);

    explicit ThreadPool(int threads = 1) { SetThreads(threads); }
    ~ThreadPool() { StopWorkers(); }
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    /** Not while a job runs. */
    void SetThreads(int threads);
    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    /** Runs task(0) … task(count - 1) in any order on any thread; returns when all are done. */
    template <typename Task>
    void Run(int64_t count, Task&& task) {
        RunTasks(
            count,
            [](void* context, int64_t index, int thread) {
                (*static_cast<std::remove_reference_t<Task>*>(context))(index, thread);
            },
            const_cast<void*>(static_cast<const void*>(&task)));
    }

  private:
    void RunTasks(int64_t count, TaskFunction function, void* context);
    void ClaimTasks(int thread);
    /** Joins every job after `last_epoch` that is still open when it looks. */
    void WorkerLoop(int thread, uint64_t last_epoch);
    /** Joins the open job unless it is the one of `last_epoch`. */
    bool TryJoin(uint64_t* last_epoch);
    void SleepUntilWork(uint64_t last_epoch);
    bool HasNews(uint64_t last_epoch) const;
    void StopWorkers();

    // The job; written by the caller while no worker is inside.
    TaskFunction function_ = nullptr;
    void* context_ = nullptr;
    int64_t count_ = 0;
    alignas(64) std::atomic<int64_t> next_{0};
    /** epoch << 32 | open << 31 | workers inside. */
    alignas(64) std::atomic<uint64_t> state_{0};
    alignas(64) std::atomic<int> sleepers_{0};
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> workers_;
};

}  // namespace ucm
