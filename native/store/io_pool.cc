#include "store/io_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <list>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "store/block_format.h"

namespace ucm {
namespace {

using std::chrono::milliseconds;

int64_t Now() { return Clock::now().time_since_epoch().count(); }
int64_t Ticks(milliseconds time) { return std::chrono::duration_cast<Clock::duration>(time).count(); }

struct FreeAligned {
    void operator()(uint8_t* data) const { std::free(data); }
};

/** The heartbeat of the I/O thread that this is read on. */
thread_local std::atomic<int64_t>* current_beat = nullptr;

}  // namespace

/** What the threads share. Stuck threads keep it alive after the pool's end. */
class IoPool::Core : public std::enable_shared_from_this<Core> {
  public:
    explicit Core(const IoPoolOptions& options) : options_(options) {}

    void Start();
    void Submit(std::shared_ptr<IoTask> task);
    void Close(milliseconds patience);
    bool Drain(milliseconds patience);
    int stuck() const;
    int64_t given_up() const;

  private:
    struct Entry {
        std::shared_ptr<IoTask> task;
        int64_t submitted = 0;
        bool expired = false;
    };
    struct Worker {
        /** When its current system call may have begun. */
        std::atomic<int64_t> beat{0};
        Entry entry;
        IoOrder::Lane lane = IoOrder::kRead;
        bool busy = false;
        bool stuck = false;
    };
    using Lock = std::unique_lock<std::mutex>;

    void StartWorker();
    void WorkerLoop(const std::shared_ptr<Worker>& worker);
    bool TakeEntry(Worker& worker);
    void RunEntry(Lock& lock, Worker& worker, const Staging& staging);
    /** False when the thread must end. */
    bool Rejoin(Worker& worker);
    void Watch();
    void ExpireLate(Lock& lock);
    void GiveUp(Worker& worker);
    void ExpireAll(Lock& lock);
    int LimitOf(IoOrder::Lane lane) const;
    bool IdleLocked() const { return queue_.empty() && running_ == 0; }

    const IoPoolOptions options_;
    mutable std::mutex mutex_;
    std::condition_variable work_;
    /** For Close: a step or a thread ended. */
    std::condition_variable change_;
    /** For the watchdog, which a step's end must not wake. */
    std::condition_variable closed_;
    std::multimap<IoOrder, Entry> queue_;
    std::list<std::shared_ptr<Worker>> workers_;
    /** Tasks inside RunStep on threads that are not stuck, in all and by lane. */
    int running_ = 0;
    int running_by_lane_[3] = {};
    int live_ = 0;
    int stuck_ = 0;
    int64_t given_up_ = 0;
    /** When any step last ended. */
    int64_t last_progress_ = 0;
    bool closing_ = false;
    std::thread watchdog_;
};

void IoPool::Core::Start() {
    const Lock lock(mutex_);
    for (int i = 0; i < options_.threads; ++i) StartWorker();
    watchdog_ = std::thread([this] { Watch(); });
}

void IoPool::Core::StartWorker() {
    auto worker = std::make_shared<Worker>();
    try {
        std::thread([core = shared_from_this(), worker] { core->WorkerLoop(worker); }).detach();
    } catch (const std::system_error&) {
        return;  // Fewer threads serve more slowly; with none, the watchdog expires every task.
    }
    workers_.push_back(std::move(worker));
    ++live_;
}

void IoPool::Core::Submit(std::shared_ptr<IoTask> task) {
    {
        const Lock lock(mutex_);
        if (!closing_) {
            const int64_t now = Now();
            if (IdleLocked()) last_progress_ = now;
            const IoOrder order = task->Order();
            queue_.emplace(order, Entry{std::move(task), now, false});
            work_.notify_one();
            return;
        }
    }
    task->Expire();
}

int IoPool::Core::LimitOf(IoOrder::Lane lane) const {
    switch (lane) {
        case IoOrder::kMaintenance: return 1;
        case IoOrder::kRead: return options_.threads;
        // Writes have nobody waiting; they must not keep reads from starting.
        case IoOrder::kWrite: return std::max(1, options_.threads / 2);
    }
    return 0;
}

bool IoPool::Core::TakeEntry(Worker& worker) {
    for (const auto lane : {IoOrder::kMaintenance, IoOrder::kRead, IoOrder::kWrite}) {
        if (running_by_lane_[lane] >= LimitOf(lane)) continue;
        const auto first = queue_.lower_bound(IoOrder{lane, 0, 0});
        if (first == queue_.end() || first->first.lane != lane) continue;
        worker.entry = std::move(first->second);
        worker.lane = lane;
        queue_.erase(first);
        return true;
    }
    return false;
}

void IoPool::Core::WorkerLoop(const std::shared_ptr<Worker>& worker) {
    const auto bytes = static_cast<std::size_t>(block_format::AlignUp(options_.staging_bytes));
    const std::unique_ptr<uint8_t, FreeAligned> memory(
        static_cast<uint8_t*>(std::aligned_alloc(block_format::kAlignment, bytes)));
    const Staging staging{memory.get(), static_cast<int64_t>(bytes)};
    current_beat = &worker->beat;
    Lock lock(mutex_);
    while (staging.data != nullptr) {
        work_.wait(lock, [&] { return TakeEntry(*worker) || closing_; });
        if (worker->entry.task == nullptr) break;
        RunEntry(lock, *worker, staging);
        if (worker->stuck && !Rejoin(*worker)) break;
    }
    if (!worker->stuck) --live_;
    workers_.remove(worker);
    current_beat = nullptr;
    change_.notify_all();
}

void IoPool::Core::RunEntry(Lock& lock, Worker& worker, const Staging& staging) {
    worker.busy = true;
    worker.beat.store(Now(), std::memory_order_relaxed);
    ++running_;
    ++running_by_lane_[worker.lane];
    lock.unlock();
    const bool again = worker.entry.task->RunStep(staging);
    lock.lock();
    worker.busy = false;
    last_progress_ = Now();
    Entry entry = std::move(worker.entry);
    if (!worker.stuck) {
        --running_;
        --running_by_lane_[worker.lane];
        if (again) {
            const IoOrder order = entry.task->Order();
            queue_.emplace(order, std::move(entry));
        }
    }
    // Lane limits may hold back what this thread itself does not take.
    work_.notify_one();
    change_.notify_all();
    lock.unlock();
    entry.task.reset();
    lock.lock();
}

bool IoPool::Core::Rejoin(Worker& worker) {
    --stuck_;
    if (live_ >= options_.threads || closing_) return false;
    ++live_;
    worker.stuck = false;
    return true;
}

void IoPool::Core::Watch() {
    const auto tick = std::clamp(options_.stall_timeout / 8, milliseconds(1), milliseconds(100));
    Lock lock(mutex_);
    while (!closing_) {
        closed_.wait_for(lock, tick, [&] { return closing_; });
        if (!closing_) ExpireLate(lock);
    }
}

void IoPool::Core::GiveUp(Worker& worker) {
    worker.stuck = true;
    ++stuck_;
    ++given_up_;
    --live_;
    --running_;
    --running_by_lane_[worker.lane];
    if (stuck_ <= options_.threads) StartWorker();
}

void IoPool::Core::ExpireLate(Lock& lock) {
    const int64_t now = Now();
    const int64_t stall = Ticks(options_.stall_timeout);
    const int64_t total = Ticks(options_.total_timeout);
    std::vector<std::shared_ptr<IoTask>> late;
    const auto expire = [&](Entry& entry) {
        if (!entry.expired) late.push_back(entry.task);
        entry.expired = true;
    };
    // Given-up workers are replaced at the end of the list that is walked here.
    for (auto it = workers_.begin(); it != workers_.end(); ++it) {
        Worker& worker = **it;
        if (!worker.busy || worker.stuck) continue;
        const bool silent = worker.beat.load(std::memory_order_relaxed) + stall < now;
        const bool overdue =
            worker.lane == IoOrder::kRead && worker.entry.submitted + total < now;
        if (silent || overdue) expire(worker.entry);
        if (silent) GiveUp(worker);
    }
    for (auto& [order, entry] : queue_) {
        const int64_t since = std::max(entry.submitted, last_progress_);
        // Nobody waits for writes, which may queue for long, as long as anyone works on them.
        const bool patient = order.lane != IoOrder::kRead && live_ > 0;
        const bool starved = since + (patient ? total : stall) < now;
        const bool overdue = order.lane == IoOrder::kRead && entry.submitted + total < now;
        // Expired ones stay queued: their next step releases what they hold, on a thread that may block.
        if (starved || overdue) expire(entry);
    }
    lock.unlock();
    for (const auto& task : late) task->Expire();
    late.clear();
    lock.lock();
}

void IoPool::Core::ExpireAll(Lock& lock) {
    std::multimap<IoOrder, Entry> queued;
    queued.swap(queue_);
    std::vector<std::shared_ptr<IoTask>> late;
    for (auto& [order, entry] : queued) {
        if (!entry.expired) late.push_back(entry.task);
    }
    for (const auto& worker : workers_) {
        if (!worker->busy || worker->entry.expired) continue;
        worker->entry.expired = true;
        late.push_back(worker->entry.task);
    }
    lock.unlock();
    for (const auto& task : late) task->Expire();
    late.clear();
    queued.clear();
    lock.lock();
}

void IoPool::Core::Close(milliseconds patience) {
    Lock lock(mutex_);
    if (!watchdog_.joinable()) return;
    change_.wait_for(lock, patience, [&] { return IdleLocked(); });
    closing_ = true;
    ExpireAll(lock);
    work_.notify_all();
    closed_.notify_all();
    // Steps under way see that their task expired; those in a system call are left behind when it hangs.
    change_.wait_for(lock, options_.stall_timeout, [&] { return live_ == 0; });
    lock.unlock();
    watchdog_.join();
}

bool IoPool::Core::Drain(milliseconds patience) {
    Lock lock(mutex_);
    return change_.wait_for(lock, patience, [&] { return IdleLocked(); });
}

int IoPool::Core::stuck() const {
    const Lock lock(mutex_);
    return stuck_;
}

int64_t IoPool::Core::given_up() const {
    const Lock lock(mutex_);
    return given_up_;
}

IoPool::IoPool(const IoPoolOptions& options) : core_(std::make_shared<Core>(options)) {
    core_->Start();
}

IoPool::~IoPool() { Close(milliseconds(0)); }

void IoPool::Submit(std::shared_ptr<IoTask> task) { core_->Submit(std::move(task)); }
void IoPool::Close(milliseconds patience) { core_->Close(patience); }
bool IoPool::Drain(milliseconds patience) { return core_->Drain(patience); }
int IoPool::stuck() const { return core_->stuck(); }
int64_t IoPool::given_up() const { return core_->given_up(); }

void IoPool::Beat() {
    if (current_beat != nullptr) current_beat->store(Now(), std::memory_order_relaxed);
}

}  // namespace ucm
