#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "esa/block_scorer.h"

namespace ucm::esa {

/** Work for the selection thread. One that waits for the store is submitted again when it answered. */
class Job {
  public:
    virtual ~Job() = default;
    virtual void Run(BlockScorer::Scratch& scratch) = 0;
};

/** Jobs on their way to the thread; the store's threads may hold it longer than the thread lives. */
class JobQueue {
  public:
    /** Drops the job when the thread has ended. */
    void Submit(std::shared_ptr<Job> job);
    /** Waits for a job; null when the queue was closed. */
    std::shared_ptr<Job> Next();
    void Close();

  private:
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::shared_ptr<Job>> jobs_;
    bool closed_ = false;
};

/** One thread that runs jobs in order. */
class JobThread {
  public:
    explicit JobThread(std::shared_ptr<JobQueue> queue);
    /** Ends after the job that runs; drops the others. */
    ~JobThread();
    JobThread(const JobThread&) = delete;
    JobThread& operator=(const JobThread&) = delete;

  private:
    const std::shared_ptr<JobQueue> queue_;
    std::thread thread_;
};

}  // namespace ucm::esa
