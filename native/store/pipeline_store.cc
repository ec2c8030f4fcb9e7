#include "store/pipeline_store.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace ucm {
namespace {

using std::chrono::milliseconds;

/** Writes handed to the file store at a time: enough to keep its writing threads busy. */
constexpr std::size_t kWritesInFlight = 16;

}  // namespace

/** Blocks on their way from memory to files. */
class PipelineStore::WriteQueue : public std::enable_shared_from_this<WriteQueue> {
  public:
    WriteQueue(std::shared_ptr<FileStore> files, std::size_t limit)
        : files_(std::move(files)), limit_(limit) {}

    void Add(const BlockKey& key, std::shared_ptr<BlockBuffer> block) {
        if (files_->Remembered(key) == Hint::kPresent) return;
        {
            const std::lock_guard lock(mutex_);
            if (closed_) return;
            if (queue_.size() >= limit_) DropOldestLocked();
            queue_.emplace_back(key, std::move(block));
        }
        Pump();
    }

    /** Gives up the oldest waiting block so that its memory can be used; false when none waits. */
    bool DropOldest() {
        const std::lock_guard lock(mutex_);
        if (queue_.empty()) return false;
        DropOldestLocked();
        return true;
    }

    void Remove(const BlockKey& key) {
        const std::lock_guard lock(mutex_);
        std::erase_if(queue_, [&](const Item& item) { return item.first == key; });
    }

    /** Waits until all is written, for at most `patience`, and takes no more. */
    void Close(milliseconds patience) {
        std::unique_lock lock(mutex_);
        written_.wait_for(lock, patience, [&] { return queue_.empty() && in_flight_ == 0; });
        closed_ = true;
        files_->counters().Add(Counter::kDumpsDropped, static_cast<int64_t>(queue_.size()));
        queue_.clear();
    }

    int64_t size() const {
        const std::lock_guard lock(mutex_);
        return static_cast<int64_t>(queue_.size() + in_flight_);
    }

  private:
    using Item = std::pair<BlockKey, std::shared_ptr<BlockBuffer>>;

    void DropOldestLocked() {
        queue_.pop_front();
        files_->counters().Add(Counter::kDumpsDropped);
    }

    /** Hands over as many as may be in flight. Completions come at any time, even within the call. */
    void Pump() {
        std::unique_lock lock(mutex_);
        if (pumping_) return;
        pumping_ = true;
        while (!queue_.empty() && in_flight_ < kWritesInFlight) {
            Item item = std::move(queue_.front());
            queue_.pop_front();
            ++in_flight_;
            lock.unlock();
            files_->DumpBuffer(item.first, std::move(item.second),
                               [self = shared_from_this()](BlockStatus status) {
                                   self->Finish(status);
                                   self->Pump();
                               });
            lock.lock();
        }
        pumping_ = false;
    }

    void Finish(BlockStatus status) {
        const std::lock_guard lock(mutex_);
        --in_flight_;
        // Other failures are counted where they happen.
        if (status == BlockStatus::kUnavailable) files_->counters().Add(Counter::kDumpsDropped);
        if (queue_.empty() && in_flight_ == 0) written_.notify_all();
    }

    const std::shared_ptr<FileStore> files_;
    const std::size_t limit_;
    mutable std::mutex mutex_;
    std::condition_variable written_;
    std::deque<Item> queue_;
    std::size_t in_flight_ = 0;
    bool pumping_ = false;
    bool closed_ = false;
};

PipelineStore::PipelineStore(std::shared_ptr<DramStore> memory, std::shared_ptr<FileStore> files,
                             std::size_t queue_blocks)
    : memory_(std::move(memory)),
      files_(std::move(files)),
      writes_(std::make_shared<WriteQueue>(files_, std::max<std::size_t>(queue_blocks, 1))) {}

PipelineStore::~PipelineStore() { Close(milliseconds(0)); }

std::vector<Presence> PipelineStore::LookupMemory(std::span<const BlockKey> keys) {
    return memory_->LookupMemory(keys);
}

void PipelineStore::Lookup(std::vector<BlockKey> keys, LookupDone done) {
    std::vector<Presence> found = memory_->LookupMemory(keys);
    std::vector<BlockKey> missing;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        if (found[i] == Presence::kMissing) missing.push_back(keys[i]);
    }
    if (missing.empty()) return done(std::move(found));
    files_->Lookup(std::move(missing), [found = std::move(found), done = std::move(done)](
                                           const std::vector<Presence>& in_files) mutable {
        auto next = in_files.begin();
        for (Presence& presence : found) {
            if (presence == Presence::kMissing) presence = *next++;
        }
        done(std::move(found));
    });
}

void PipelineStore::Load(std::shared_ptr<LoadBatch> batch) {
    for (std::size_t i = 0; i < batch->size(); ++i) {
        if (std::shared_ptr<BlockBuffer> block = memory_->Find(batch->target(i).key)) {
            memory_->LoadOne(batch, i, std::move(block));
            continue;
        }
        files_->LoadOne(batch, i, [memory = memory_](const BlockKey& key, const uint8_t* data) {
            memory->Keep(key, data);
        });
    }
}

void PipelineStore::LoadPieces(std::vector<PieceTarget> pieces, BlocksDone done) {
    const auto batch = std::make_shared<PieceBatch>(std::move(pieces), std::move(done));
    std::vector<DramStore::PieceRun> in_memory;
    batch->ForBlocks([&](std::size_t begin, std::size_t end) {
        if (std::shared_ptr<BlockBuffer> block = memory_->Find(batch->target(begin).key)) {
            in_memory.push_back({begin, end, std::move(block)});
        } else {
            files_->LoadRun(batch, begin, end);
        }
    });
    memory_->LoadRuns(batch, std::move(in_memory));
}

BlockStatus PipelineStore::DumpOne(const DumpSource& source) {
    BlockStatus status = BlockStatus::kRefused;
    memory_->Dump({&source, 1}, [&](const std::vector<BlockStatus>& statuses) {
        status = statuses.front();
    });
    std::shared_ptr<BlockBuffer> block = memory_->Find(source.key);
    // Blocks that wait to be written may hold all the room.
    while (block == nullptr && status == BlockStatus::kRefused && writes_->DropOldest()) {
        block = memory_->Keep(source.key, source.data);
    }
    if (block == nullptr) return status;
    writes_->Add(source.key, std::move(block));
    return BlockStatus::kOk;
}

void PipelineStore::Dump(std::span<const DumpSource> blocks, BlocksDone done) {
    std::vector<BlockStatus> statuses;
    for (const DumpSource& source : blocks) statuses.push_back(DumpOne(source));
    done(std::move(statuses));
}

bool PipelineStore::DropPin(const BlockKey& key) {
    const std::lock_guard lock(pins_mutex_);
    const auto pin = pins_.find(key);
    if (pin == pins_.end()) return false;
    PinCount& count = pin->second;
    --count.total;
    const bool in_files = count.in_files > count.total;
    if (in_files) --count.in_files;
    if (count.total == 0) pins_.erase(pin);
    return in_files;
}

void PipelineStore::Pin(std::vector<BlockKey> keys, BlocksDone done) {
    for (const BlockKey& key : keys) memory_->AddPin(key);
    files_->Pin(keys, [this, keys, done = std::move(done)](std::vector<BlockStatus> statuses) {
        std::vector<BlockKey> failed;
        {
            const std::lock_guard lock(pins_mutex_);
            for (std::size_t i = 0; i < keys.size(); ++i) {
                const bool in_files = statuses[i] == BlockStatus::kOk;
                if (memory_->Find(keys[i]) != nullptr) statuses[i] = BlockStatus::kOk;
                if (statuses[i] != BlockStatus::kOk) {
                    failed.push_back(keys[i]);
                    continue;
                }
                PinCount& count = pins_[keys[i]];
                ++count.total;
                count.in_files += in_files;
            }
        }
        memory_->Unpin(std::move(failed));
        done(std::move(statuses));
    });
}

void PipelineStore::Unpin(std::vector<BlockKey> keys) {
    std::vector<BlockKey> in_files;
    for (const BlockKey& key : keys) {
        if (DropPin(key)) in_files.push_back(key);
    }
    memory_->Unpin(std::move(keys));
    if (!in_files.empty()) files_->Unpin(std::move(in_files));
}

void PipelineStore::Forget(std::vector<BlockKey> keys, BlocksDone done) {
    std::vector<bool> in_memory;
    for (const BlockKey& key : keys) {
        writes_->Remove(key);
        in_memory.push_back(memory_->Remove(key));
    }
    files_->Forget(std::move(keys), [in_memory = std::move(in_memory), done = std::move(done)](
                                        std::vector<BlockStatus> statuses) {
        for (std::size_t i = 0; i < statuses.size(); ++i) {
            if (in_memory[i] && statuses[i] == BlockStatus::kMissing) {
                statuses[i] = BlockStatus::kOk;
            }
        }
        done(std::move(statuses));
    });
}

std::vector<TierStats> PipelineStore::Stats() const {
    std::vector<TierStats> stats = memory_->Stats();
    TierStats files = files_->Stats().front();
    files.values.emplace_back("queuedWrites", writes_->size());
    stats.push_back(std::move(files));
    return stats;
}

void PipelineStore::Close(milliseconds patience) {
    const auto deadline = Clock::now() + patience;
    writes_->Close(patience);
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    files_->Close(std::max(left, milliseconds(0)));
    memory_->Close(milliseconds(0));
}

}  // namespace ucm
