#include "esa/job_thread.h"

#include <utility>

#include "common/float_mode.h"

namespace ucm::esa {

void JobQueue::Submit(std::shared_ptr<Job> job) {
    {
        const std::lock_guard lock(mutex_);
        if (closed_) return;
        jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
}

std::shared_ptr<Job> JobQueue::Next() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return closed_ || !jobs_.empty(); });
    if (closed_) return nullptr;
    std::shared_ptr<Job> job = std::move(jobs_.front());
    jobs_.pop_front();
    return job;
}

void JobQueue::Close() {
    std::deque<std::shared_ptr<Job>> dropped;
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        dropped.swap(jobs_);
    }
    wake_.notify_all();
}

JobThread::JobThread(std::shared_ptr<JobQueue> queue) : queue_(std::move(queue)) {
    thread_ = std::thread([queue = queue_] {
        const ScopedFloatMode float_mode;
        BlockScorer::Scratch scratch;
        while (const std::shared_ptr<Job> job = queue->Next()) job->Run(scratch);
    });
}

JobThread::~JobThread() {
    queue_->Close();
    thread_.join();
}

}  // namespace ucm::esa
