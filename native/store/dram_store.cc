#include "store/dram_store.h"

#include <algorithm>
#include <thread>
#include <utility>

namespace ucm {
namespace {

using std::chrono::milliseconds;

/** Copies do not hang. */
constexpr std::chrono::hours kNever{24};

/** Pieces copied by one task: a thread that wakes takes as long as some copies. */
constexpr std::size_t kPiecesPerTask = 32;

/** More threads than this do not copy faster. */
constexpr int kMaxThreads = 4;

IoPoolOptions PoolOptions(int threads) {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    return {.threads = threads > 0 ? threads : std::clamp(cores, 1, kMaxThreads),
            .staging_bytes = 1,
            .stall_timeout = kNever,
            .total_timeout = kNever};
}

}  // namespace

/** Copies one block of a batch out. */
class DramStore::CopyTask final : public IoTask {
  public:
    CopyTask(DramStore& store, std::shared_ptr<LoadBatch> batch, std::size_t index,
             std::shared_ptr<BlockBuffer> block)
        : store_(store), batch_(std::move(batch)), index_(index), block_(std::move(block)) {}

    IoOrder Order() const override { return {IoOrder::kRead, 0, 0}; }

    bool RunStep(const Staging&) override {
        BlockStatus status = BlockStatus::kOk;
        {
            const std::lock_guard lock(mutex_);
            if (finished_) return false;
            const auto start = Clock::now();
            const LoadTarget& target = batch_->target(index_);
            if (block_->CopyTo(target.data)) {
                store_.counters_.Add(Counter::kLoadedBlocks);
                store_.counters_.Add(Counter::kLoadedBytes, block_->bytes());
            } else {
                store_.RemoveDamaged(target.key, block_.get());
                status = BlockStatus::kCorrupt;
            }
            store_.counters_.Add(
                Counter::kLoadMicros,
                std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start)
                    .count());
            finished_ = true;
        }
        block_.reset();
        batch_->Finish(index_, status);
        return false;
    }

    void Expire() override {
        {
            const std::lock_guard lock(mutex_);
            if (finished_) return;
            finished_ = true;
        }
        batch_->Finish(index_, BlockStatus::kUnavailable);
    }

  private:
    DramStore& store_;
    const std::shared_ptr<LoadBatch> batch_;
    const std::size_t index_;
    std::shared_ptr<BlockBuffer> block_;
    /** Held while the batch's memory is written. */
    std::mutex mutex_;
    bool finished_ = false;
};

/** Copies some layers of some blocks out. */
class DramStore::CopyPiecesTask final : public IoTask {
  public:
    CopyPiecesTask(DramStore& store, std::shared_ptr<PieceBatch> batch,
                   std::vector<PieceRun> runs)
        : store_(store), batch_(std::move(batch)), runs_(std::move(runs)) {}

    IoOrder Order() const override { return {IoOrder::kRead, 0, 0}; }

    bool RunStep(const Staging&) override {
        const auto start = Clock::now();
        while (CopyNext()) {
        }
        store_.counters_.Add(
            Counter::kLoadMicros,
            std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count());
        return false;
    }

    void Expire() override {
        std::vector<PieceRun> rest;
        {
            const std::lock_guard lock(mutex_);
            rest.swap(runs_);
        }
        for (const PieceRun& run : rest) {
            batch_->Finish(run.begin, run.end, BlockStatus::kUnavailable);
        }
    }

  private:
    bool CopyNext() {
        std::size_t index = 0;
        BlockStatus status = BlockStatus::kOk;
        {
            const std::lock_guard lock(mutex_);
            if (runs_.empty()) return false;
            PieceRun& run = runs_.back();
            index = run.begin++;
            PrefetchNext();
            const PieceTarget& target = batch_->target(index);
            if (run.block->CopyLayerTo(target.layer, target.data)) {
                store_.counters_.Add(Counter::kLoadedPieces);
                store_.counters_.Add(Counter::kLoadedBytes, store_.shape().layer_bytes());
            } else {
                store_.RemoveDamaged(target.key, run.block.get());
                status = BlockStatus::kCorrupt;
            }
            if (run.begin == run.end) runs_.pop_back();
        }
        batch_->Finish(index, index + 1, status);
        return true;
    }

    /** The piece after the one that was just taken from the last run. Locked. */
    void PrefetchNext() const {
        auto run = runs_.rbegin();
        if (run->begin == run->end) ++run;
        if (run == runs_.rend()) return;
        run->block->PrefetchLayer(batch_->target(run->begin).layer);
    }

    DramStore& store_;
    const std::shared_ptr<PieceBatch> batch_;
    /** Held while the batch's memory is written. */
    std::mutex mutex_;
    /** What is left of them; none is empty. */
    std::vector<PieceRun> runs_;
};

Status DramStore::Open(const DramStoreOptions& options, std::shared_ptr<DramStore>* store) {
    std::shared_ptr<BlockBufferPool> pool;
    UCM_RETURN_IF_ERROR(
        BlockBufferPool::Create(options.shape, options.capacity_bytes, "max_cache_size", &pool));
    store->reset(new DramStore(options, std::move(pool)));
    return Status::Ok();
}

DramStore::DramStore(const DramStoreOptions& options, std::shared_ptr<BlockBufferPool> pool)
    : pool_(std::move(pool)), threads_(PoolOptions(options.threads)) {}

DramStore::~DramStore() { Close(milliseconds(0)); }

std::shared_ptr<BlockBuffer> DramStore::FindLocked(const BlockKey& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    Order& order = OrderOf(key);
    order.splice(order.begin(), order, found->second);
    return found->second->block;
}

std::shared_ptr<BlockBuffer> DramStore::Find(const BlockKey& key) {
    const std::lock_guard lock(mutex_);
    return FindLocked(key);
}

std::vector<Presence> DramStore::LookupMemory(std::span<const BlockKey> keys) {
    std::vector<Presence> found;
    found.reserve(keys.size());
    int64_t hits = 0;
    {
        const std::lock_guard lock(mutex_);
        for (const BlockKey& key : keys) {
            const bool present = FindLocked(key) != nullptr;
            found.push_back(present ? Presence::kMemory : Presence::kMissing);
            hits += present;
        }
    }
    counters_.Add(Counter::kLookups, static_cast<int64_t>(keys.size()));
    counters_.Add(Counter::kLookupHits, hits);
    return found;
}

void DramStore::Lookup(std::vector<BlockKey> keys, LookupDone done) { done(LookupMemory(keys)); }

void DramStore::Load(std::shared_ptr<LoadBatch> batch) {
    for (std::size_t i = 0; i < batch->size(); ++i) {
        LoadOne(batch, i, Find(batch->target(i).key));
    }
}

void DramStore::LoadOne(const std::shared_ptr<LoadBatch>& batch, std::size_t index,
                        std::shared_ptr<BlockBuffer> block) {
    if (block == nullptr) {
        counters_.Add(Counter::kLoadMisses);
        batch->Finish(index, BlockStatus::kMissing);
        return;
    }
    threads_.Submit(std::make_shared<CopyTask>(*this, batch, index, std::move(block)));
}

void DramStore::LoadPieces(std::vector<PieceTarget> pieces, BlocksDone done) {
    const auto batch = std::make_shared<PieceBatch>(std::move(pieces), std::move(done));
    std::vector<PieceRun> runs;
    batch->ForBlocks([&](std::size_t begin, std::size_t end) {
        if (std::shared_ptr<BlockBuffer> block = Find(batch->target(begin).key)) {
            runs.push_back({begin, end, std::move(block)});
            return;
        }
        counters_.Add(Counter::kLoadMisses);
        batch->Finish(begin, end, BlockStatus::kMissing);
    });
    LoadRuns(batch, std::move(runs));
}

void DramStore::LoadRuns(const std::shared_ptr<PieceBatch>& batch, std::vector<PieceRun> runs) {
    std::vector<PieceRun> task;
    std::size_t pieces = 0;
    const auto submit = [&] {
        threads_.Submit(std::make_shared<CopyPiecesTask>(*this, batch, std::exchange(task, {})));
        pieces = 0;
    };
    for (PieceRun& run : runs) {
        pieces += run.end - run.begin;
        task.push_back(std::move(run));
        if (pieces >= kPiecesPerTask) submit();
    }
    if (!task.empty()) submit();
}

/** A free buffer, if need be that of the least recently used block that nobody else holds. Locked. */
std::shared_ptr<BlockBuffer> DramStore::MakeRoom() {
    if (std::shared_ptr<BlockBuffer> free = pool_->TryAcquire()) return free;
    for (auto entry = unpinned_.rbegin(); entry != unpinned_.rend(); ++entry) {
        // New references are made under the lock that is held here, so this one stays the only one.
        if (entry->block.use_count() > 1) continue;
        counters_.Add(Counter::kEvictedBlocks);
        counters_.Add(Counter::kEvictedBytes, entry->block->bytes());
        index_.erase(entry->key);
        // Through the pool, since only the last reference's end comes after what readers did.
        unpinned_.erase(std::next(entry).base());
        return pool_->TryAcquire();
    }
    return nullptr;
}

std::shared_ptr<BlockBuffer> DramStore::Keep(const BlockKey& key, const uint8_t* data) {
    std::shared_ptr<BlockBuffer> block;
    {
        const std::lock_guard lock(mutex_);
        if (closed_) return nullptr;
        if (std::shared_ptr<BlockBuffer> present = FindLocked(key)) return present;
        block = MakeRoom();
    }
    if (block == nullptr) return nullptr;
    block->Fill(data);
    const std::lock_guard lock(mutex_);
    if (std::shared_ptr<BlockBuffer> present = FindLocked(key)) return present;
    Order& order = OrderOf(key);
    order.push_front({key, block});
    index_[key] = order.begin();
    return block;
}

void DramStore::Dump(std::span<const DumpSource> blocks, BlocksDone done) {
    std::vector<BlockStatus> statuses;
    for (const DumpSource& source : blocks) {
        const auto start = Clock::now();
        if (Find(source.key) != nullptr) {
            counters_.Add(Counter::kDumpDuplicates);
            statuses.push_back(BlockStatus::kOk);
        } else if (Keep(source.key, source.data) != nullptr) {
            counters_.Add(Counter::kDumpedBlocks);
            counters_.Add(Counter::kDumpedBytes, shape().bytes_per_block);
            statuses.push_back(BlockStatus::kOk);
        } else {
            counters_.Add(Counter::kDumpsRefused);
            statuses.push_back(BlockStatus::kRefused);
        }
        counters_.Add(
            Counter::kDumpMicros,
            std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count());
    }
    done(std::move(statuses));
}

void DramStore::Move(const BlockKey& key, Order& from, Order& to) {
    const auto found = index_.find(key);
    if (found != index_.end()) to.splice(to.begin(), from, found->second);
}

void DramStore::AddPin(const BlockKey& key) {
    const std::lock_guard lock(mutex_);
    if (++pins_[key] == 1) Move(key, unpinned_, pinned_);
}

void DramStore::Pin(std::vector<BlockKey> keys, BlocksDone done) {
    std::vector<BlockStatus> statuses;
    {
        const std::lock_guard lock(mutex_);
        for (const BlockKey& key : keys) {
            const bool present = index_.contains(key);
            statuses.push_back(present ? BlockStatus::kOk : BlockStatus::kMissing);
            if (present && ++pins_[key] == 1) Move(key, unpinned_, pinned_);
        }
    }
    done(std::move(statuses));
}

void DramStore::Unpin(std::vector<BlockKey> keys) {
    const std::lock_guard lock(mutex_);
    for (const BlockKey& key : keys) {
        const auto pin = pins_.find(key);
        if (pin == pins_.end() || --pin->second > 0) continue;
        pins_.erase(pin);
        Move(key, pinned_, unpinned_);
    }
}

bool DramStore::Remove(const BlockKey& key) {
    const std::lock_guard lock(mutex_);
    const auto found = index_.find(key);
    if (found == index_.end()) return false;
    OrderOf(key).erase(found->second);
    index_.erase(found);
    return true;
}

void DramStore::RemoveDamaged(const BlockKey& key, const BlockBuffer* block) {
    counters_.Add(Counter::kCorruptBlocks);
    const std::lock_guard lock(mutex_);
    const auto found = index_.find(key);
    if (found == index_.end() || found->second->block.get() != block) return;
    OrderOf(key).erase(found->second);
    index_.erase(found);
}

void DramStore::Forget(std::vector<BlockKey> keys, BlocksDone done) {
    std::vector<BlockStatus> statuses;
    for (const BlockKey& key : keys) {
        statuses.push_back(Remove(key) ? BlockStatus::kOk : BlockStatus::kMissing);
    }
    done(std::move(statuses));
}

std::vector<TierStats> DramStore::Stats() const {
    TierStats stats{"memory", counters_.Values()};
    const std::lock_guard lock(mutex_);
    const auto blocks = static_cast<int64_t>(index_.size());
    stats.values.emplace_back("blocks", blocks);
    stats.values.emplace_back("usedBytes", blocks * shape().bytes_per_block);
    stats.values.emplace_back("capacityBytes", pool_->capacity() * shape().bytes_per_block);
    stats.values.emplace_back("pinnedBlocks", static_cast<int64_t>(pinned_.size()));
    stats.values.emplace_back("buffersInUse", pool_->in_use());
    return {stats};
}

void DramStore::Close(milliseconds patience) {
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }
    threads_.Close(patience);
}

}  // namespace ucm
