#include "store/file_tasks.h"

#include <algorithm>
#include <utility>

#include "store/crc32c.h"

namespace ucm {
namespace {

using Outcome = BlockReader::Outcome;

/** Adds the thread time of a scope to a counter. */
class Stopwatch {
  public:
    Stopwatch(Counters& counters, Counter counter)
        : counters_(counters), counter_(counter), start_(Clock::now()) {}
    ~Stopwatch() {
        const auto time = Clock::now() - start_;
        counters_.Add(counter_,
                      std::chrono::duration_cast<std::chrono::microseconds>(time).count());
    }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

  private:
    Counters& counters_;
    const Counter counter_;
    const Clock::time_point start_;
};

/** One block that was not loaded. */
void CountFailure(Counters& counters, BlockStatus status) {
    switch (status) {
        case BlockStatus::kMissing: counters.Add(Counter::kLoadMisses); break;
        case BlockStatus::kTimeout: counters.Add(Counter::kLoadTimeouts); break;
        case BlockStatus::kFailed: counters.Add(Counter::kLoadFailures); break;
        default: break;
    }
}

}  // namespace

LoadTask::LoadTask(std::shared_ptr<FileBackend> backend, std::shared_ptr<LoadBatch> batch,
                   std::size_t index, uint64_t window, BlockLoaded loaded)
    : backend_(std::move(backend)),
      batch_(std::move(batch)),
      index_(index),
      window_(window),
      loaded_(std::move(loaded)),
      reader_(backend_->options().files, backend_->options().shape,
              backend_->options().name_space, batch_->target(index).key) {}

bool LoadTask::RunStep(const Staging& staging) {
    const Stopwatch stopwatch(backend_->counters(), Counter::kLoadMicros);
    in_step_.store(true);
    const Outcome outcome = Advance(staging);
    if (outcome == Outcome::kMore) {
        batch_->Advance(index_, reader_.verified_layers());
    } else if (outcome != Outcome::kStopped) {
        const BlockStatus status = backend_->Conclude(key(), outcome, &reader_);
        Finish(status);
    }
    in_step_.store(false);
    if (outcome == Outcome::kMore) return true;
    reader_.Close();
    return false;
}

Outcome LoadTask::Advance(const Staging& staging) {
    {
        const std::lock_guard lock(mutex_);
        if (finished_) return Outcome::kStopped;
    }
    if (!reader_.is_open()) {
        const Outcome opened = backend_->OpenBlock(key(), &reader_);
        if (opened != Outcome::kMore) return opened;
    }
    uint8_t* const data = batch_->target(index_).data;
    return reader_.Read(staging, [&](int64_t offset, const uint8_t* bytes, std::size_t size,
                                     uint32_t* crc) {
        const std::lock_guard lock(mutex_);
        if (finished_) return false;
        *crc = CopyWithCrc32c(data + offset, bytes, size, *crc);
        return true;
    });
}

void LoadTask::Finish(BlockStatus status) {
    {
        const std::lock_guard lock(mutex_);
        if (finished_) return;
        if (status == BlockStatus::kOk && loaded_) loaded_(key(), batch_->target(index_).data);
        finished_ = true;
    }
    Count(status);
    batch_->Finish(index_, status);
}

void LoadTask::Count(BlockStatus status) {
    Counters& counters = backend_->counters();
    if (status != BlockStatus::kOk) return CountFailure(counters, status);
    counters.Add(Counter::kLoadedBlocks);
    counters.Add(Counter::kLoadedBytes, backend_->options().shape.bytes_per_block);
}

void LoadTask::Expire() {
    // One that only waited says nothing about the device.
    if (in_step_.load()) backend_->reads().Fail();
    Finish(BlockStatus::kTimeout);
}

LoadPiecesTask::LoadPiecesTask(std::shared_ptr<FileBackend> backend,
                               std::shared_ptr<PieceBatch> batch, std::size_t begin,
                               std::size_t end, uint64_t window)
    : backend_(std::move(backend)),
      batch_(std::move(batch)),
      end_(end),
      window_(window),
      reader_(backend_->options().files, backend_->options().shape,
              backend_->options().name_space, batch_->target(begin).key),
      next_(begin) {}

bool LoadPiecesTask::HasMore() {
    const std::lock_guard lock(mutex_);
    return next_ < end_;
}

bool LoadPiecesTask::RunStep(const Staging& staging) {
    const Stopwatch stopwatch(backend_->counters(), Counter::kLoadMicros);
    in_step_.store(true);
    const Outcome outcome = Advance(staging);
    if (outcome == Outcome::kDone) {
        Finish(current_ + 1, BlockStatus::kOk);
        if (!HasMore()) backend_->Conclude(key(), outcome, &reader_);
    } else if (outcome != Outcome::kMore && outcome != Outcome::kStopped) {
        Finish(end_, backend_->Conclude(key(), outcome, &reader_));
    }
    in_step_.store(false);
    if (HasMore()) return true;
    reader_.Close();
    return false;
}

Outcome LoadPiecesTask::Advance(const Staging& staging) {
    {
        const std::lock_guard lock(mutex_);
        if (next_ == end_) return Outcome::kStopped;
        current_ = next_;
    }
    if (!reader_.is_open()) {
        const Outcome opened = backend_->OpenBlock(key(), &reader_);
        if (opened != Outcome::kMore) return opened;
        return reader_.ReadHeader(staging);
    }
    const PieceTarget& target = batch_->target(current_);
    return reader_.ReadLayer(target.layer, staging,
                             [&](int64_t offset, const uint8_t* bytes, std::size_t size,
                                 uint32_t* crc) {
                                 const std::lock_guard lock(mutex_);
                                 if (next_ != current_) return false;
                                 *crc = CopyWithCrc32c(target.data + offset, bytes, size, *crc);
                                 return true;
                             });
}

void LoadPiecesTask::Finish(std::size_t end, BlockStatus status) {
    std::size_t begin = 0;
    {
        const std::lock_guard lock(mutex_);
        begin = std::exchange(next_, std::max(next_, end));
        end = next_;
    }
    Counters& counters = backend_->counters();
    const auto pieces = static_cast<int64_t>(end - begin);
    if (pieces == 0) return;
    if (status == BlockStatus::kOk) {
        counters.Add(Counter::kLoadedPieces, pieces);
        counters.Add(Counter::kLoadedBytes, pieces * backend_->options().shape.layer_bytes());
    } else {
        CountFailure(counters, status);
    }
    batch_->Finish(begin, end, status);
}

void LoadPiecesTask::Expire() {
    if (in_step_.load()) backend_->reads().Fail();
    Finish(end_, BlockStatus::kTimeout);
}

DumpTask::DumpTask(std::shared_ptr<FileBackend> backend, const BlockKey& key,
                   std::shared_ptr<BlockBuffer> block, Done done)
    : backend_(std::move(backend)),
      key_(key),
      block_(std::move(block)),
      done_(std::move(done)) {}

bool DumpTask::RunStep(const Staging& staging) {
    if (finished_.load()) return false;
    const Stopwatch stopwatch(backend_->counters(), Counter::kDumpMicros);
    const bool usable = backend_->reads().closed() && backend_->writes().Admit();
    const BlockStatus status =
        usable ? backend_->Store(key_, *block_, staging) : BlockStatus::kUnavailable;
    if (!finished_.exchange(true)) done_(status);
    return false;
}

void DumpTask::Expire() {
    if (finished_.exchange(true)) return;
    backend_->writes().Fail();
    backend_->counters().Add(Counter::kDumpFailures);
    done_(BlockStatus::kTimeout);
}

KeysTask::KeysTask(std::shared_ptr<FileBackend> backend, std::vector<Item> items,
                   std::shared_ptr<StatusBatch> batch, Action action, Undo undo)
    : backend_(std::move(backend)),
      items_(std::move(items)),
      batch_(std::move(batch)),
      action_(std::move(action)),
      undo_(std::move(undo)) {}

bool KeysTask::RunStep(const Staging&) {
    in_step_.store(true);
    for (std::size_t i = 0; i < items_.size(); ++i) {
        {
            const std::lock_guard lock(mutex_);
            if (expired_) {
                for (; undo_ && i < items_.size(); ++i) undo_(*backend_, items_[i].key, false);
                break;
            }
        }
        IoPool::Beat();
        const BlockStatus status = action_(*backend_, items_[i].key);
        bool late = false;
        {
            const std::lock_guard lock(mutex_);
            late = expired_;
            if (!late) ++next_;
        }
        if (!late) {
            batch_->Finish(items_[i].index, status);
        } else if (undo_ && status == BlockStatus::kOk) {
            undo_(*backend_, items_[i].key, true);
        }
    }
    in_step_.store(false);
    return false;
}

void KeysTask::Expire() {
    std::size_t next = 0;
    {
        const std::lock_guard lock(mutex_);
        expired_ = true;
        next = next_;
    }
    if (in_step_.load()) backend_->reads().Fail();
    for (; next < items_.size(); ++next) {
        batch_->Finish(items_[next].index, BlockStatus::kTimeout);
    }
}

ChoreTask::ChoreTask(std::shared_ptr<FileBackend> backend,
                     std::function<void(FileBackend&)> chore, std::function<void()> done)
    : backend_(std::move(backend)), chore_(std::move(chore)), done_(std::move(done)) {}

bool ChoreTask::RunStep(const Staging&) {
    if (finished_.load()) return false;
    chore_(*backend_);
    if (!finished_.exchange(true)) done_();
    return false;
}

void ChoreTask::Expire() {
    if (finished_.exchange(true)) return;
    backend_->reads().Fail();
    done_();
}

}  // namespace ucm
