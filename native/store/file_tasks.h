#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "store/file_backend.h"
#include "store/io_pool.h"
#include "store/kv_store.h"

namespace ucm {

/** Collects one status per block from any thread. */
class StatusBatch {
  public:
    StatusBatch(std::size_t size, BlocksDone done)
        : statuses_(size, BlockStatus::kMissing), pending_(size), done_(std::move(done)) {
        if (size == 0) done_({});
    }

    /** Once per block. */
    void Finish(std::size_t index, BlockStatus status) {
        {
            const std::lock_guard lock(mutex_);
            statuses_[index] = status;
            if (--pending_ > 0) return;
        }
        done_(std::move(statuses_));
    }

  private:
    std::mutex mutex_;
    std::vector<BlockStatus> statuses_;
    std::size_t pending_;
    const BlocksDone done_;
};

/** Told of a block that was just loaded, while its memory may still be read. */
using BlockLoaded = std::function<void(const BlockKey& key, const uint8_t* data)>;

/** Loads one block of a batch, some layers a step. */
class LoadTask final : public IoTask {
  public:
    LoadTask(std::shared_ptr<FileBackend> backend, std::shared_ptr<LoadBatch> batch,
             std::size_t index, uint64_t window, BlockLoaded loaded);

    IoOrder Order() const override {
        return {IoOrder::kRead, window_, reader_.verified_layers()};
    }
    bool RunStep(const Staging& staging) override;
    void Expire() override;

  private:
    BlockReader::Outcome Advance(const Staging& staging);
    /** Only the first call counts: nobody writes to the block's memory after it. */
    void Finish(BlockStatus status);
    void Count(BlockStatus status);
    const BlockKey& key() const { return batch_->target(index_).key; }

    const std::shared_ptr<FileBackend> backend_;
    const std::shared_ptr<LoadBatch> batch_;
    const std::size_t index_;
    const uint64_t window_;
    const BlockLoaded loaded_;
    BlockReader reader_;
    std::atomic<bool> in_step_{false};
    /** Held while the block's memory is touched, never over a system call. */
    std::mutex mutex_;
    bool finished_ = false;
};

/** Loads some layers of one block, one read a step. */
class LoadPiecesTask final : public IoTask {
  public:
    /** Pieces [begin, end) of the batch, all of one block. */
    LoadPiecesTask(std::shared_ptr<FileBackend> backend, std::shared_ptr<PieceBatch> batch,
                   std::size_t begin, std::size_t end, uint64_t window);

    IoOrder Order() const override { return {IoOrder::kRead, window_, 0}; }
    bool RunStep(const Staging& staging) override;
    void Expire() override;

  private:
    BlockReader::Outcome Advance(const Staging& staging);
    /** Reports pieces up to `end`. Nobody writes to a piece's memory after it was reported. */
    void Finish(std::size_t end, BlockStatus status);
    /** Whether pieces are left to load. */
    bool HasMore();
    const BlockKey& key() const { return batch_->target(end_ - 1).key; }

    const std::shared_ptr<FileBackend> backend_;
    const std::shared_ptr<PieceBatch> batch_;
    const std::size_t end_;
    const uint64_t window_;
    BlockReader reader_;
    /** The piece that is being read; only used by the I/O thread. */
    std::size_t current_ = 0;
    std::atomic<bool> in_step_{false};
    /** Held while memory of the batch is touched, never over a system call. */
    std::mutex mutex_;
    /** Pieces before it were reported. */
    std::size_t next_;
};

/** Writes one block. */
class DumpTask final : public IoTask {
  public:
    using Done = std::function<void(BlockStatus)>;

    DumpTask(std::shared_ptr<FileBackend> backend, const BlockKey& key,
             std::shared_ptr<BlockBuffer> block, Done done);

    IoOrder Order() const override { return {IoOrder::kWrite, 0, 0}; }
    bool RunStep(const Staging& staging) override;
    void Expire() override;

  private:
    const std::shared_ptr<FileBackend> backend_;
    const BlockKey key_;
    const std::shared_ptr<BlockBuffer> block_;
    const Done done_;
    std::atomic<bool> finished_{false};
};

/** Does something short to each of some keys. */
class KeysTask final : public IoTask {
  public:
    struct Item {
        BlockKey key;
        /** In the batch. */
        std::size_t index;
    };
    using Action = std::function<BlockStatus(FileBackend&, const BlockKey&)>;
    /** `acted` says whether the action was done. */
    using Undo = std::function<void(FileBackend&, const BlockKey&, bool acted)>;

    /** `undo`, which may be empty, is for keys that were reported as timed out. */
    KeysTask(std::shared_ptr<FileBackend> backend, std::vector<Item> items,
             std::shared_ptr<StatusBatch> batch, Action action, Undo undo);

    IoOrder Order() const override { return {IoOrder::kRead, 0, 0}; }
    bool RunStep(const Staging& staging) override;
    void Expire() override;

  private:
    const std::shared_ptr<FileBackend> backend_;
    const std::vector<Item> items_;
    const std::shared_ptr<StatusBatch> batch_;
    const Action action_;
    const Undo undo_;
    std::mutex mutex_;
    /** Items that were reported. */
    std::size_t next_ = 0;
    std::atomic<bool> in_step_{false};
    bool expired_ = false;
};

/** Heartbeats, probes, recycling: work for nobody in particular. */
class ChoreTask final : public IoTask {
  public:
    /** `done` runs when the chore ended or got stuck. */
    ChoreTask(std::shared_ptr<FileBackend> backend, std::function<void(FileBackend&)> chore,
              std::function<void()> done);

    IoOrder Order() const override { return {IoOrder::kMaintenance, 0, 0}; }
    bool RunStep(const Staging& staging) override;
    void Expire() override;

  private:
    const std::shared_ptr<FileBackend> backend_;
    const std::function<void(FileBackend&)> chore_;
    const std::function<void()> done_;
    std::atomic<bool> finished_{false};
};

}  // namespace ucm
